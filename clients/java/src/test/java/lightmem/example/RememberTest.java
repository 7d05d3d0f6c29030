package lightmem.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.util.UUID;
import lightmem.v1.MemoryOuterClass.Scope;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** The example on a real server, which `make test-clients` starts. */
@EnabledIfEnvironmentVariable(named = "LIGHTMEM_TARGET", matches = ".+")
class RememberTest {
  private static final String TARGET = System.getenv("LIGHTMEM_TARGET");
  private final Scope scope = Scope.newBuilder().setUserId("java-" + UUID.randomUUID()).build();

  @Test
  void whatIsWrittenIsFound() throws Exception {
    try (Remember memory = new Remember(TARGET, Remember.findKey())) {
      assertEquals(1, memory.write(scope, "I moved to Rome last week").size());
      String context = memory.retrieve(scope, "Where do I live?");
      assertTrue(context.contains("I moved to Rome last week"), context);
    }
  }

  @Test
  void aRefusalSaysWhy() throws Exception {
    try (Remember memory = new Remember(TARGET, "lm_unknown_key")) {
      StatusException refusal = assertThrows(StatusException.class, () -> memory.retrieve(scope, "x"));
      assertEquals(Status.Code.UNAUTHENTICATED, refusal.getStatus().getCode());
      ErrorInfo info = StatusProto.fromThrowable(refusal).getDetails(0).unpack(ErrorInfo.class);
      assertEquals("KEY_INVALID", info.getReason());
    }
  }
}
