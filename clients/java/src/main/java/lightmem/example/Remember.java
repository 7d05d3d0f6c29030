package lightmem.example;

import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusException;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import lightmem.v1.MemoryOuterClass.Scope;
import lightmem.v1.MemoryOuterClass.Turn;
import lightmem.v1.MemoryServiceGrpc;
import lightmem.v1.MemoryServiceGrpc.MemoryServiceBlockingV2Stub;
import lightmem.v1.MemoryServiceOuterClass.RetrieveRequest;
import lightmem.v1.MemoryServiceOuterClass.RetrieveResponse;
import lightmem.v1.MemoryServiceOuterClass.WriteRequest;
import lightmem.v1.MemoryServiceOuterClass.WriteResponse;

/**
 * Remembers, and is asked: a whole program on the stubs that are generated from the API.
 *
 * <p>It speaks to LIGHTMEM_TARGET, else to localhost:7420, with the key in LIGHTMEM_API_KEY, else the admin key that the server's
 * first start left on this machine.
 */
public final class Remember implements AutoCloseable {
  private static final long TIMEOUT_SECONDS = 30;

  private final ManagedChannel channel;
  private final MemoryServiceBlockingV2Stub memory;

  /** A client whose calls all carry the key. The connection is made with the first call. */
  public Remember(String target, String key) {
    channel = OkHttpChannelBuilder.forTarget(target).usePlaintext().build(); // beyond this machine: without usePlaintext
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    memory =
        MemoryServiceGrpc.newBlockingV2Stub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** Stores one turn; once it is answered, the turn is on disk and can be found. The request id makes sending it again harmless. */
  public List<String> write(Scope scope, String text)
      throws StatusException, InterruptedException {
    BlockingClientCall<WriteRequest, WriteResponse> call = withDeadline().write();
    call.write(
        WriteRequest.newBuilder()
            .setScope(scope)
            .addTurns(Turn.newBuilder().setText(text))
            .setRequestId(UUID.randomUUID().toString())
            .build());
    call.halfClose();
    WriteResponse answer = call.read();
    if (answer == null) {
      throw new IllegalStateException("the write was not acknowledged");
    }
    return answer.getMemoryIdsList();
  }

  /** What an agent needs to know now, as text for a prompt. */
  public String retrieve(Scope scope, String query) throws StatusException, InterruptedException {
    RetrieveRequest request = RetrieveRequest.newBuilder().setScope(scope).setQuery(query).build();
    BlockingClientCall<?, RetrieveResponse> call = withDeadline().retrieve(request);
    for (RetrieveResponse part = call.read(); part != null; part = call.read()) {
      if (part.hasMemories()) {
        return part.getMemories().getPackedContext();
      }
    }
    throw new IllegalStateException("the answer ended without its memories");
  }

  private MemoryServiceBlockingV2Stub withDeadline() {
    return memory.withDeadlineAfter(TIMEOUT_SECONDS, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** LIGHTMEM_API_KEY, else the key that the server's first start left. */
  static String findKey() throws IOException {
    String key = System.getenv("LIGHTMEM_API_KEY");
    Path path = keyFile(System.getenv(), System.getProperty("user.home"), System.getProperty("os.name"));
    return key != null ? key : Files.readString(path).strip();
  }

  /** Where that is: in LIGHTMEM_DATA_DIR, else by the system's customs. */
  static Path keyFile(Map<String, String> environment, String home, String system) {
    String folder = environment.get("LIGHTMEM_DATA_DIR");
    if (folder != null) {
      return Path.of(folder, "admin.key");
    }
    Path data = Path.of(environment.getOrDefault("XDG_DATA_HOME", home + "/.local/share"));
    if (system.startsWith("Windows")) {
      data = Path.of(environment.getOrDefault("LOCALAPPDATA", home + "/AppData/Local"));
    } else if (system.startsWith("Mac")) {
      data = Path.of(home, "Library", "Application Support");
    }
    return data.resolve("lightmem").resolve("admin.key");
  }

  /** Remember USER TEXT QUESTION. */
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 3) {
      System.err.println("usage: Remember USER TEXT QUESTION");
      System.exit(2);
    }
    String target = System.getenv().getOrDefault("LIGHTMEM_TARGET", "localhost:7420");
    Scope scope = Scope.newBuilder().setUserId(arguments[0]).build();
    try (Remember memory = new Remember(target, findKey())) {
      System.out.println("stored as " + String.join(", ", memory.write(scope, arguments[1])));
      System.out.println(memory.retrieve(scope, arguments[2]));
    }
  }
}
