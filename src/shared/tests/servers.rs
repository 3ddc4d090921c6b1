//! Real servers on loopback: Redis, and one that speaks S3.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::process::{Spec, run};

/// How long a server may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A server that ends with this value.
struct Server {
    port: u16,
    cancel: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts `program`, unless it is not installed; CI must have it.
    fn start(program: &str, args: impl Fn(u16) -> Vec<String>) -> Option<Self> {
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
fn patiently(team: &Team, options: &StoreOptions) -> SharedAnswer {
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
    let team = Team::at(url);
    let options = StoreOptions { environment: with_credentials(), ..team.options() };
    assert_missed(&patiently(&team, &options), "no record by ci@example.com");
    let sign_with = Some(team.key_file(CI));
    let writer = StoreOptions { write: true, sign_with, ..options.clone() };
    let writer = SharedStore::open(writer).unwrap();
    assert_eq!(publish(&writer, 1, &["a"]), Ok(1));
    assert_eq!(publish(&writer, 2, &["b"]), Ok(1));
    let answer = patiently(&team, &options);
    let found = answer.records.iter().map(|found| found.record.key).collect::<BTreeSet<_>>();
    assert_eq!(found, BTreeSet::from(["a", "b"].map(digest)));
    let bad: Vec<_> = block_on(writer.probe()).into_iter().filter(|line| !line.is_good).collect();
    assert_eq!(bad, []);
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
fn a_bucket_holds_records() {
    let args = |port: u16| ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    let Some(server) = Server::start("moto_server", args) else { return };
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let request = "PUT /team HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    let endpoint = format!("endpoint=http://127.0.0.1:{}", server.port);
    shares(&format!("s3://team/verdicts?{endpoint}&region=us-east-1"));
    // There is no such bucket.
    let team = Team::at(&format!("s3://elsewhere?{endpoint}"));
    let options = StoreOptions { environment: with_credentials(), ..team.options() };
    let answer = patiently(&team, &options);
    assert_eq!(answer.records, []);
}
