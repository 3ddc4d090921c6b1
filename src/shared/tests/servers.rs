//! Real servers on loopback: Redis, and those that speak S3 and the languages of Google's and Azure's
//! stores.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::storms::{Dice, storm};
use super::*;
use crate::process::{Spec, run};
use crate::shared::Retention;

/// How long a server may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A server that ends with this value.
pub(super) struct Server {
    pub(super) port: u16,
    cancel: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts `program`, unless it is not installed; CI must have it.
    pub(super) fn start(program: &str, args: impl Fn(u16) -> Vec<String>) -> Option<Self> {
        let environment = Environment::inherited();
        if environment.find_program(Path::new(program), Path::new("/")).is_none() {
            assert!(environment.get("KNHK_TEST_CACHE_CI").is_none(), "{program} is not installed");
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec::new(program, dir.path(), environment).args(args(port));
        let cancel = CancellationToken::new();
        let until = cancel.clone();
        let thread = std::thread::spawn(move || {
            block_on(run(&spec, &until, None, |_, _| {})).unwrap();
        });
        let server = Self { port, cancel, thread: Some(thread), _dir: dir };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < START_LIMIT, "{program} does not listen");
            block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Looks up until the server has answered in time: what is tested is not how busy the machine is.
pub(super) fn patiently(team: &Team, options: &StoreOptions) -> SharedAnswer {
    let started = Instant::now();
    loop {
        let answer = look_up(&SharedStore::open(options.clone()).unwrap());
        let is_late = |miss: &String| miss.contains("no answer within") || miss.contains("is off");
        if !answer.misses.iter().any(is_late) {
            return answer;
        }
        assert!(started.elapsed() < START_LIMIT, "{:?}", answer.misses);
        let _ = fs::remove_dir_all(team.path("state"));
    }
}

fn shares(url: &str) {
    shares_as(url, with_credentials());
}

fn shares_as(url: &str, environment: Environment) {
    let team = Team::at(url);
    let options = StoreOptions { environment, ..team.options() };
    assert_missed(&patiently(&team, &options), "no record by ci@example.com");
    let sign_with = Some(team.key_file(CI));
    let writer = StoreOptions { write: true, sign_with, ..options.clone() };
    let writer = SharedStore::open(writer).unwrap();
    assert_eq!(publish(&writer, 1, &["a"]), Ok(1));
    assert_eq!(publish(&writer, 2, &["b"]), Ok(1));
    let answer = patiently(&team, &options);
    let found = answer.records.iter().map(|found| found.key).collect::<BTreeSet<_>>();
    assert_eq!(found, BTreeSet::from(["a", "b"].map(digest)));
    let wanted = Retention { older_than: Duration::ZERO, project: None, dry_run: false };
    match block_on(writer.collect(wanted)) {
        Ok(report) => assert_eq!((report.removed, report.failed), (3, Vec::new())),
        Err(error) => {
            assert!(url.starts_with("redis:") && error.to_string().contains("cannot list"));
        }
    }
    let bad: Vec<_> = block_on(writer.probe()).into_iter().filter(|line| !line.is_good).collect();
    assert_eq!(bad, []);
}

/// What a proxy does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    /// Nobody listens, as far as a client can tell.
    Killed,
    /// The connection ends in the middle of an answer.
    Cut,
    /// 10 kB a second.
    Slow,
    /// Nothing comes any more.
    Silent,
    /// What a balancer says whose servers are gone.
    Unavailable,
}

/// A proxy on loopback that can do what networks do.
struct Proxy {
    port: u16,
    weather: Arc<Mutex<Weather>>,
}

impl Proxy {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let weather = Arc::new(Mutex::new(Weather::Fair));
        let of_all = Arc::clone(&weather);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let weather = Arc::clone(&of_all);
                std::thread::spawn(move || Self::carry(&client, server, &weather));
            }
        });
        Self { port, weather }
    }

    fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// Carries one connection to its end. Its threads end with the connection, which clients close.
    fn carry(client: &TcpStream, server: u16, weather: &Arc<Mutex<Weather>>) {
        if *weather.lock().unwrap() == Weather::Killed {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
        let ways = [(client, &server), (&server, client)];
        std::thread::scope(|scope| {
            for (from, to) in ways {
                scope.spawn(move || {
                    let _ = Self::copy(from, to, weather);
                    for end in [from, to] {
                        let _ = end.shutdown(std::net::Shutdown::Both);
                    }
                });
            }
        });
    }

    fn copy(
        mut from: &TcpStream,
        mut to: &TcpStream,
        weather: &Mutex<Weather>,
    ) -> std::io::Result<()> {
        // So that a silence ends with its connection, and a change of the weather is noticed.
        from.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut piece = [0; 200];
        let mut waiting: Vec<u8> = Vec::new();
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => waiting.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let now = *weather.lock().unwrap();
            match now {
                Weather::Fair | Weather::Slow => to.write_all(&waiting)?,
                Weather::Killed | Weather::Cut => return Ok(()),
                Weather::Silent => continue,
                Weather::Unavailable => {
                    let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
                    return from.write_all(answer.as_bytes());
                }
            }
            waiting.clear();
            if now == Weather::Slow {
                // As long as so many bytes take.
                block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
            }
        }
    }
}

/// A storm over a server; `empty` has it forget all.
fn endures(server: u16, url: impl Fn(u16) -> String, empty: impl Fn()) {
    let proxy = Proxy::before(server);
    let team = Team::at(&url(proxy.port));
    let reader = StoreOptions { environment: with_credentials(), ..team.options() };
    let sign_with = Some(team.key_file(CI));
    // A writer of another machine: what it does is not harmed, and not learned from.
    let direct = StoreOptions { url: url(server), state_dir: team.path("other"), ..reader.clone() };
    let writer = StoreOptions { write: true, sign_with, ..direct };
    let harm = |dice: &mut Dice| match dice.roll(6) {
        0 => proxy.set(Weather::Killed),
        1 => proxy.set(Weather::Cut),
        2 => proxy.set(Weather::Slow),
        3 => proxy.set(Weather::Silent),
        4 => proxy.set(Weather::Unavailable),
        _ => empty(),
    };
    storm(&reader, &writer, harm, || proxy.set(Weather::Fair));
}

/// Says something to a server and reads until it closes the connection, or answers `until`.
fn say(port: u16, request: &str, until: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 1024]);
    while !answer.contains(until) {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
}

#[test]
fn redis_in_a_storm() {
    let args = |port: u16| {
        let args = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        args.into_iter().map(str::to_owned).chain([port.to_string()]).collect()
    };
    let Some(server) = Server::start("redis-server", args) else { return };
    let url = |port: u16| format!("redis://127.0.0.1:{port}/1?team");
    endures(server.port, url, || say(server.port, "FLUSHALL\r\n", "+OK"));
}

const NEW_BUCKET: &str = "PUT /team HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";

/// A server that speaks S3, with the bucket `team`.
pub(super) fn bucket() -> Option<Server> {
    let args = |port: u16| ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    let server = Server::start("moto_server", args)?;
    say(server.port, NEW_BUCKET, " 200 ");
    Some(server)
}

#[test]
fn a_bucket_in_a_storm() {
    let Some(server) = bucket() else { return };
    let url =
        |port: u16| format!("s3://team/verdicts?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let reset = "POST /moto-api/reset HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";
    endures(server.port, url, || {
        say(server.port, reset, " 200 ");
        say(server.port, NEW_BUCKET, " 200 ");
    });
}

#[test]
fn redis_holds_records() {
    let args = |port: u16| {
        let args = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        args.into_iter().map(str::to_owned).chain([port.to_string()]).collect()
    };
    let Some(server) = Server::start("redis-server", args) else { return };
    shares(&format!("redis://127.0.0.1:{}/1?team", server.port));
    // Another prefix is another store.
    let team = Team::at(&format!("redis://127.0.0.1:{}/1?other", server.port));
    assert_missed(&patiently(&team, &team.options()), "no record by");
}

#[test]
fn a_bucket_of_google_holds_records() {
    let args = |port: u16| {
        let args = ["start", "--host=127.0.0.1", "--in-memory", "--default-bucket=team"];
        args.into_iter().map(str::to_owned).chain([format!("--port={port}")]).collect()
    };
    let Some(server) = Server::start("gcp-storage-emulator", args) else { return };
    let url = format!("gs://team/verdicts?endpoint=http://127.0.0.1:{}", server.port);
    // With no credentials of whoever runs this.
    let mut environment = Environment::inherited();
    environment.set("GOOGLE_APPLICATION_CREDENTIALS", "");
    environment.set("CLOUDSDK_CONFIG", "/nowhere");
    shares_as(&url, environment);
}

/// The account of Azure's emulator, with its published key.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Everything may be done with the account's blobs until 2099, says that key.
const AZURE_TOKEN: &str = "sv=2020-10-02&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=GEp8iyVVTmUQ2xM1yRTQ4XCpgi5lwRML3Ec6aQYKXp4%3D";

#[test]
fn a_container_of_azure_holds_records() {
    let args = |port: u16| {
        let args = ["--inMemoryPersistence", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"];
        let port = ["--blobPort".to_owned(), port.to_string()];
        args.into_iter().map(str::to_owned).chain(port).collect()
    };
    let Some(server) = Server::start("azurite-blob", args) else { return };
    for (container, variable, value) in [
        ("by-key", "AZURE_STORAGE_KEY", AZURE_KEY),
        ("by-token", "AZURE_STORAGE_SAS_TOKEN", AZURE_TOKEN),
    ] {
        let path = format!("/{AZURE_ACCOUNT}/{container}?restype=container&{AZURE_TOKEN}");
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-ms-version: 2020-10-02\r\n\
             Content-Length: 0\r\n\r\n"
        );
        say(server.port, &request, " 201 ");
        let endpoint = format!("endpoint=http://127.0.0.1:{}/{AZURE_ACCOUNT}", server.port);
        let url = format!("az://{container}/verdicts?account={AZURE_ACCOUNT}&{endpoint}");
        let mut environment = Environment::inherited();
        // As CI sets those that a job may not have.
        environment.set("AZURE_STORAGE_ACCOUNT_KEY", "");
        environment.set("AZURE_STORAGE_KEY", "");
        environment.set(variable, value);
        shares_as(&url, environment);
        // Without credentials, what is not public is closed.
        let team = Team::at(&url);
        assert_missed(&patiently(&team, &team.options()), "HTTP status 40");
    }
}

#[test]
fn a_bucket_holds_records() {
    let Some(server) = bucket() else { return };
    let endpoint = format!("endpoint=http://127.0.0.1:{}", server.port);
    shares(&format!("s3://team/verdicts?{endpoint}&region=us-east-1"));
    // There is no such bucket.
    let team = Team::at(&format!("s3://elsewhere?{endpoint}"));
    let options = StoreOptions { environment: with_credentials(), ..team.options() };
    let answer = patiently(&team, &options);
    assert_eq!(answer.records, []);
}
