package lightmem.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.nio.file.Path;
import java.util.Map;
import java.util.UUID;
import lightmem.v1.MemoryOuterClass.Scope;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** The example on a real server, which `make test-clients` starts. */
class RememberTest {
  private static final String TARGET = System.getenv("LIGHTMEM_TARGET");
  private final Scope scope = Scope.newBuilder().setUserId("java-" + UUID.randomUUID()).build();

  @Test
  void theKeyIsWhereTheFirstStartOfAServerLeavesIt() {
    assertEquals(Path.of("/data/admin.key"), Remember.keyFile(Map.of("LIGHTMEM_DATA_DIR", "/data"), "/home/ann", "Linux"));
    assertEquals(Path.of("/home/ann/.local/share/lightmem/admin.key"), Remember.keyFile(Map.of(), "/home/ann", "Linux"));
    assertEquals(
        Path.of("/share/lightmem/admin.key"), Remember.keyFile(Map.of("XDG_DATA_HOME", "/share"), "/home/ann", "Linux"));
    assertEquals(
        Path.of("/Users/ann/Library/Application Support/lightmem/admin.key"),
        Remember.keyFile(Map.of(), "/Users/ann", "Mac OS X"));
  }

  @Test
  @EnabledIfEnvironmentVariable(named = "LIGHTMEM_TARGET", matches = ".+")
  void whatIsWrittenIsFound() throws Exception {
    try (Remember memory = new Remember(TARGET, Remember.findKey())) {
      assertEquals(1, memory.write(scope, "I moved to Rome last week").size());
      String context = memory.retrieve(scope, "Where do I live?");
      assertTrue(context.contains("I moved to Rome last week"), context);
    }
  }

  @Test
  @EnabledIfEnvironmentVariable(named = "LIGHTMEM_TARGET", matches = ".+")
  void aRefusalSaysWhy() throws Exception {
    try (Remember memory = new Remember(TARGET, "lm_unknown_key")) {
      StatusException refusal = assertThrows(StatusException.class, () -> memory.retrieve(scope, "x"));
      assertEquals(Status.Code.UNAUTHENTICATED, refusal.getStatus().getCode());
      ErrorInfo info = StatusProto.fromThrowable(refusal).getDetails(0).unpack(ErrorInfo.class);
      assertEquals("KEY_INVALID", info.getReason());
    }
  }
}
