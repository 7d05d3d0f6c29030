"""The load harness: a scenario file in, percentiles and statuses out, beside the server's own figures."""
