"""gRPC services: proto in, domain types out, errors mapped once."""
