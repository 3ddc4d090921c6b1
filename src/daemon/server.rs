//! Connections: reads requests, hands them to a session, writes replies. Their number, size and time
//! are bounded, and they are open only to the daemon's own user.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::peer;
use super::subscriber::Subscription;
use super::sync::lock;
use crate::protocol::{
    Call, EVENTLESS_HEARTBEAT, FrameError, HEARTBEAT, LineBuffer, PROTOCOL, Reply, Request,
    VERSION, encode,
};

/// How many connections are open at once. One more closes the one that has been idle for the longest
/// time.
const CONNECTIONS: usize = 64;
/// How many of them may be told events: the others are for questions.
const SUBSCRIPTIONS: usize = 32;
/// How long a message may take to arrive whole, and a reply to be taken.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that holds nothing may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests in flight may take once the daemon is to stop.
const REQUESTS_TIMEOUT_AT_SHUTDOWN: Duration = Duration::from_secs(2);
/// How long an open connection may still send a request once the daemon is to stop.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(50);

/// What a request in flight is doing, for the heartbeat's text.
pub(super) type Doing = watch::Sender<String>;

/// Answers the requests of one connection; dropped when the connection closes, which ends
/// whatever the connection held.
pub(super) trait Session: Send {
    /// Answers one request.
    fn answer(&mut self, call: Call, doing: &Doing) -> impl Future<Output = Reply> + Send;

    /// Whether the connection holds something as long as it is open.
    fn holds(&self) -> bool;

    /// What the connection is told from now on, if the last call has asked for that.
    fn take_subscription(&mut self) -> Option<Subscription>;
}

/// The open connections.
#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, OpenConnection>,
}

/// A connection, seen from the server.
#[derive(Debug)]
struct OpenConnection {
    /// Since when it has no request in flight, if it has none.
    idle_since: Option<Instant>,
    holds: bool,
    evict: CancellationToken,
}

impl Connections {
    /// Makes room for one more; none if all have requests in flight.
    fn enter(&mut self, now: Instant) -> Option<(u64, CancellationToken)> {
        if self.open.len() >= CONNECTIONS {
            // One that holds a project belongs to a client that runs tests.
            let idle = self.open.iter().filter(|(_, one)| one.idle_since.is_some());
            let (&id, _) = idle.min_by_key(|(_, one)| (one.holds, one.idle_since))?;
            if let Some(evicted) = self.open.remove(&id) {
                evicted.evict.cancel();
            }
        }
        let (id, evict) = (self.next, CancellationToken::new());
        self.next += 1;
        let connection =
            OpenConnection { idle_since: Some(now), holds: false, evict: evict.clone() };
        self.open.insert(id, connection);
        Some((id, evict))
    }

    fn set(&mut self, id: u64, idle_since: Option<Instant>, holds: bool) {
        if let Some(connection) = self.open.get_mut(&id) {
            (connection.idle_since, connection.holds) = (idle_since, holds);
        }
    }
}

/// A connection's entry, which is removed when this is dropped.
struct ConnectionEntry {
    id: u64,
    evict: CancellationToken,
    connections: Arc<Mutex<Connections>>,
    /// Rings when there is room again.
    left: Arc<Notify>,
    subscriptions: Arc<Semaphore>,
}

impl ConnectionEntry {
    /// A place among the clients that are told events; none if all are taken.
    fn subscribe(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.subscriptions).try_acquire_owned().ok()
    }

    fn set_busy(&self) {
        lock(&self.connections).set(self.id, None, false);
    }

    fn set_idle(&self, holds: bool) {
        lock(&self.connections).set(self.id, Some(Instant::now()), holds);
        self.left.notify_one();
    }
}

impl Drop for ConnectionEntry {
    fn drop(&mut self) {
        lock(&self.connections).open.remove(&self.id);
        self.left.notify_one();
    }
}

/// Accepts connections until `stop` fires, then lets those that have been accepted be answered.
pub(super) async fn serve<S: Session + 'static>(
    listener: UnixListener,
    stop: CancellationToken,
    session: impl Fn() -> S,
) {
    let (connections, left) = (Arc::new(Mutex::new(Connections::default())), Arc::default());
    let subscriptions = Arc::new(Semaphore::new(SUBSCRIPTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(HEARTBEAT).await;
                continue;
            }
        };
        let entered = loop {
            let entered = lock(&connections).enter(Instant::now());
            if entered.is_some() || stop.is_cancelled() {
                break entered;
            }
            // All have requests in flight: each is answered in time.
            let left: &Notify = &left;
            tokio::select! {
                () = left.notified() => {}
                () = stop.cancelled() => {}
            }
        };
        let Some((id, evict)) = entered else { break };
        let entry = ConnectionEntry {
            id,
            evict,
            connections: Arc::clone(&connections),
            left: Arc::clone(&left),
            subscriptions: Arc::clone(&subscriptions),
        };
        let (session, stop) = (session(), stop.clone());
        open.spawn(async move {
            if let Err(error) = converse(stream, session, &entry, &stop).await {
                debug!(%error, "connection ended");
            }
        });
    }
    // New clients wait in the supervisor's socket, or find none; these have been accepted.
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    if timeout(REQUESTS_TIMEOUT_AT_SHUTDOWN, drained).await.is_err() {
        warn!("a request was still in flight when the daemon stopped");
    }
}

/// Serves one connection to its end; once `stop` has fired, only what was asked by then.
async fn converse(
    mut stream: UnixStream,
    mut session: impl Session,
    entry: &ConnectionEntry,
    stop: &CancellationToken,
) -> io::Result<()> {
    if let Some(reason) = peer::stranger(&stream)? {
        warn!(reason, "refused a connection");
        return send(&mut stream, &refusal(reason)).await;
    }
    let mut buffer = LineBuffer::default();
    loop {
        let over = async {
            stop.cancelled().await;
            // A request that was sent before is in the socket already, or as good as.
            tokio::time::sleep(LAST_REQUEST_TIMEOUT).await;
        };
        let holds = session.holds();
        entry.set_idle(holds);
        let line = tokio::select! {
            biased;
            line = next_line(&mut stream, &mut buffer) => line,
            () = over => return Ok(()),
            () = entry.evict.cancelled() => return Ok(()),
            () = tokio::time::sleep(IDLE_TIMEOUT), if !holds => return Ok(()),
        };
        entry.set_busy();
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(Broken::Io(error)) => return Err(error),
            Err(Broken::Message(message)) => {
                return send(&mut stream, &Reply::Error { message }).await;
            }
        };
        let call = match understand(&line) {
            Ok(call) => call,
            Err(reply) => return send(&mut stream, &reply).await,
        };
        if !matches!(call, Call::Status)
            && let Some(reason) = peer::outsider(&stream)?
        {
            warn!(reason, "refused a connection");
            return send(&mut stream, &refusal(reason)).await;
        }
        let (doing, seen) = watch::channel(String::from("working"));
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        let reply = {
            let mut answer = std::pin::pin!(session.answer(call, &doing));
            loop {
                tokio::select! {
                    biased;
                    reply = &mut answer => break reply,
                    _ = beat.tick() => {
                        let what = seen.borrow().clone();
                        // Fails once the client has gone: then the request is dropped with the
                        // session.
                        send(&mut stream, &Reply::Working { what }).await?;
                    }
                }
            }
        };
        send(&mut stream, &reply).await?;
        if let Some(subscription) = session.take_subscription() {
            let Some(_place) = entry.subscribe() else {
                let message =
                    format!("{SUBSCRIPTIONS} clients are watching already: close one of them");
                return send(&mut stream, &Reply::Error { message }).await;
            };
            return tell_events(stream, subscription, stop).await;
        }
    }
}

/// Tells events until the client goes or says anything, is dropped, or `stop` fires.
async fn tell_events(
    stream: UnixStream,
    mut subscription: Subscription,
    stop: &CancellationToken,
) -> io::Result<()> {
    let dropped = subscription.dropped();
    let (mut from, mut to) = stream.into_split();
    let telling = async {
        loop {
            match timeout(EVENTLESS_HEARTBEAT, subscription.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => {
                    for event in batch.iter() {
                        send(&mut to, &Reply::Event { event: event.clone() }).await?;
                    }
                }
                Err(_) => send(&mut to, &Reply::Working { what: "watching".to_owned() }).await?,
            }
        }
    };
    let mut word = [0; 1];
    tokio::select! {
        told = telling => told,
        // A client has nothing more to say: it has gone, or makes no sense.
        _ = from.read(&mut word) => Ok(()),
        () = dropped.cancelled() => {
            debug!("a client that watches does not read: dropped");
            Ok(())
        }
        () = stop.cancelled() => Ok(()),
    }
}

fn refusal(reason: String) -> Reply {
    Reply::Refused { version: VERSION.to_owned(), reason }
}

/// The call in a line, or what to say of a line that holds none.
fn understand(line: &[u8]) -> Result<Call, Box<Reply>> {
    #[derive(serde::Deserialize)]
    struct Head {
        protocol: u32,
        version: String,
    }
    let garbage = |error: serde_json::Error| {
        Box::new(Reply::Error { message: FrameError::Garbage(error).to_string() })
    };
    // The head first: another version's call need not make sense here.
    let head: Head = serde_json::from_slice(line).map_err(garbage)?;
    if head.protocol != PROTOCOL || head.version != VERSION {
        let reason = format!("asked by version {}, protocol {}", head.version, head.protocol);
        return Err(Box::new(refusal(reason)));
    }
    serde_json::from_slice::<Request>(line).map(|request| request.call).map_err(garbage)
}

enum Broken {
    Io(io::Error),
    Message(String),
}

/// The next line; `None` at the end. A message that has begun must end in time.
async fn next_line(
    stream: &mut UnixStream,
    buffer: &mut LineBuffer,
) -> Result<Option<Vec<u8>>, Broken> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        if let Some(line) = buffer.next_line() {
            return Ok(Some(line));
        }
        let read = stream.read(&mut chunk);
        let count = if buffer.is_partial() {
            match timeout(MESSAGE_TIMEOUT, read).await {
                Ok(count) => count,
                Err(_) => return Err(Broken::Message("message never ended".into())),
            }
        } else {
            read.await
        };
        match count.map_err(Broken::Io)? {
            0 if buffer.is_partial() => {
                return Err(Broken::Message("message was cut off".into()));
            }
            0 => return Ok(None),
            count => {
                buffer.push(&chunk[..count]).map_err(|error| Broken::Message(error.to_string()))?;
            }
        }
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let bytes = encode(reply).or_else(|error| {
        encode(&Reply::Error { message: format!("cannot send the reply: {error}") })
    });
    let bytes = bytes.map_err(io::Error::other)?;
    timeout(MESSAGE_TIMEOUT, stream.write_all(&bytes)).await.map_err(io::Error::from)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientError, Connection};
    use crate::protocol::MAX_MESSAGE;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as StdStream;
    use std::path::PathBuf;

    /// Answers every call with `Done`; a reload takes until the test says so.
    struct Stub(Arc<tokio::sync::Notify>);

    impl Session for Stub {
        async fn answer(&mut self, call: Call, doing: &Doing) -> Reply {
            if call == Call::Reload {
                doing.send_replace("reloading".into());
                self.0.notified().await;
            }
            Reply::Done
        }

        fn holds(&self) -> bool {
            false
        }

        fn take_subscription(&mut self) -> Option<Subscription> {
            None
        }
    }

    /// Runs `client` against a server on a thread of its own.
    fn with_server<T: Send + 'static>(
        client: impl FnOnce(PathBuf, Arc<tokio::sync::Notify>) -> T + Send + 'static,
    ) -> T {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::bind(&socket).unwrap();
            let (stop, go) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
            let server = serve(listener, stop.clone(), {
                let go = Arc::clone(&go);
                move || Stub(Arc::clone(&go))
            });
            let client = tokio::task::spawn_blocking(move || client(socket, go));
            tokio::select! {
                () = server => panic!("the server ended by itself"),
                result = client => result.unwrap(),
            }
        })
    }

    fn raw(socket: PathBuf, words: &[u8]) -> String {
        let mut stream = StdStream::connect(socket).unwrap();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(words);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).unwrap()
    }

    #[test]
    fn several_requests_on_one_connection() {
        with_server(|socket, _| {
            let mut connection = Connection::open(&socket).unwrap().unwrap();
            for _ in 0..3 {
                assert_eq!(connection.call(Call::Status, |_| {}).unwrap(), Reply::Done);
            }
        });
    }

    #[test]
    fn long_work_is_heard_of() {
        with_server(|socket, go| {
            let mut connection = Connection::open(&socket).unwrap().unwrap();
            let reply = connection.call(Call::Reload, |what| {
                assert_eq!(what, "reloading");
                go.notify_one();
            });
            assert_eq!(reply.unwrap(), Reply::Done);
        });
    }

    #[test]
    fn garbage_and_halves_get_an_error_and_the_next_client_an_answer() {
        with_server(|socket, _| {
            assert!(raw(socket.clone(), b"hello\n").contains("not a message"));
            assert!(raw(socket.clone(), b"{\"protocol\":1,").contains("cut off"));
            assert!(raw(socket.clone(), b"\xff\xfe\n").contains("not a message"));
            let mut connection = Connection::open(&socket).unwrap().unwrap();
            assert_eq!(connection.call(Call::Status, |_| {}).unwrap(), Reply::Done);
        });
    }

    #[test]
    fn a_huge_message_is_refused_and_not_kept() {
        with_server(|socket, _| {
            let reply = raw(socket.clone(), &vec![b'x'; MAX_MESSAGE + 100_000]);
            assert!(reply.is_empty() || reply.contains("more than"), "{reply}");
            let mut connection = Connection::open(&socket).unwrap().unwrap();
            assert_eq!(connection.call(Call::Status, |_| {}).unwrap(), Reply::Done);
        });
    }

    #[test]
    fn another_version_is_refused_by_name() {
        with_server(|socket, _| {
            let words = b"{\"protocol\":1,\"version\":\"0.0.1\",\"call\":{\"method\":\"sing\"}}\n";
            let reply = raw(socket.clone(), words);
            assert!(reply.contains("refused") && reply.contains(VERSION), "{reply}");
            let mut connection = Connection::open(&socket).unwrap().unwrap();
            assert!(!matches!(
                connection.call(Call::Status, |_| {}),
                Err(ClientError::Refused { .. })
            ));
        });
    }
}
