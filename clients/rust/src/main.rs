//! Remembers, and is asked: a whole program on the stubs that are generated from the API.
//!
//! It speaks to `LIGHTMEM_TARGET`, else to `localhost:7420`, with the key in `LIGHTMEM_API_KEY`, else the admin key that the
//! server's first start left on this machine. `remember USER TEXT QUESTION` writes the text and prints what a prompt needs.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightmem::memory_service_client::MemoryServiceClient;
use lightmem::retrieve_response::Part;
use lightmem::{RetrieveRequest, Scope, Turn, WriteRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// What `build.rs` makes of proto/.
#[allow(clippy::all, clippy::pedantic)]
mod lightmem {
    tonic::include_proto!("lightmem.v1");
}

/// Of each call.
const TIMEOUT: Duration = Duration::from_secs(30);

type Failure = Box<dyn Error + Send + Sync>;
type Memory<F> = MemoryServiceClient<InterceptedService<Channel, F>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [user_id, text, question] = arguments.as_slice() else {
        return Err("usage: remember USER TEXT QUESTION".into());
    };
    let target = env::var("LIGHTMEM_TARGET").unwrap_or_else(|_| "localhost:7420".into());
    let mut memory = connect(&target, &find_key()?)?;
    let scope = Scope {
        user_id: user_id.clone(),
        ..Scope::default()
    };
    let ids = write(&mut memory, scope.clone(), text).await?;
    println!("stored as {}", ids.join(", "));
    println!("{}", retrieve(&mut memory, scope, question).await?);
    Ok(())
}

/// A client whose calls all carry the key. The connection is made with the first call.
fn connect(
    target: &str,
    key: &str,
) -> Result<Memory<impl FnMut(Request<()>) -> Result<Request<()>, Status> + use<>>, Failure> {
    let channel = Endpoint::from_shared(format!("http://{target}"))?
        .timeout(TIMEOUT)
        .connect_lazy();
    let header: MetadataValue<Ascii> = format!("Bearer {key}").parse()?;
    Ok(MemoryServiceClient::with_interceptor(
        channel,
        move |mut request: Request<()>| {
            request
                .metadata_mut()
                .insert("authorization", header.clone());
            Ok(request)
        },
    ))
}

fn find_key() -> Result<String, Failure> {
    if let Ok(key) = env::var("LIGHTMEM_API_KEY") {
        return Ok(key);
    }
    let path = key_file()?;
    let key = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(key.trim().into())
}

/// Where that is: in `LIGHTMEM_DATA_DIR`, else by the system's customs.
fn key_file() -> Result<PathBuf, Failure> {
    if let Ok(folder) = env::var("LIGHTMEM_DATA_DIR") {
        return Ok(PathBuf::from(folder).join("admin.key"));
    }
    let home = env::home_dir().ok_or("set LIGHTMEM_API_KEY or LIGHTMEM_DATA_DIR")?;
    let data = if cfg!(windows) {
        env::var_os("LOCALAPPDATA").map_or_else(|| home.join("AppData/Local"), PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home.join("Library/Application Support")
    } else {
        env::var_os("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from)
    };
    Ok(data.join("lightmem").join("admin.key"))
}

/// Stores one turn; once it is answered, the turn is on disk and can be found. The request id makes sending it again harmless.
async fn write<F>(memory: &mut Memory<F>, scope: Scope, text: &str) -> Result<Vec<String>, Failure>
where
    F: tonic::service::Interceptor,
{
    let turn = Turn {
        text: text.into(),
        ..Turn::default()
    };
    let request_id = format!(
        "{:x}",
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos()
    );
    let request = WriteRequest {
        scope: Some(scope),
        turns: vec![turn],
        request_id,
    };
    let mut answers = memory
        .write(tokio_stream::once(request))
        .await?
        .into_inner();
    let answer = answers
        .message()
        .await?
        .ok_or("the write was not acknowledged")?;
    Ok(answer.memory_ids)
}

/// What an agent needs to know now, as text for a prompt.
async fn retrieve<F>(memory: &mut Memory<F>, scope: Scope, query: &str) -> Result<String, Failure>
where
    F: tonic::service::Interceptor,
{
    let request = RetrieveRequest {
        scope: Some(scope),
        query: query.into(),
        ..RetrieveRequest::default()
    };
    let mut parts = memory.retrieve(request).await?.into_inner();
    while let Some(answer) = parts.message().await? {
        if let Some(Part::Memories(selected)) = answer.part {
            return Ok(selected.packed_context);
        }
    }
    Err("the answer ended without its memories".into())
}
