//! A store that is off, silent or refuses costs one short wait, and then nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::*;

/// Far more than a look-up may take, for machines that are busy.
const GENEROUS: Duration = Duration::from_secs(30);

/// A server on loopback that answers each request with the same bytes and then stays silent.
fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request);
            if !answer.is_empty() && read.is_ok() {
                let _ = stream.write_all(answer.as_bytes());
            }
            open.push(stream);
        }
    });
    port
}

fn s3(port: u16) -> String {
    format!("s3://bucket/prefix?endpoint=http://127.0.0.1:{port}&region=us-east-1")
}

fn options(team: &Team) -> StoreOptions {
    StoreOptions { environment: with_credentials(), ..team.options() }
}

fn open(team: &Team) -> SharedStore {
    SharedStore::open(options(team)).unwrap()
}

#[test]
fn a_silent_server_is_waited_for_once() {
    let team = Team::at(&s3(server("")));
    let started = Instant::now();
    let answer = look_up(&open(&team));
    assert_missed(&answer, "no answer within 270 ms");
    assert!(answer.news.unwrap().contains("going on without it"));
    assert!(started.elapsed() < GENEROUS);
    // Another command: it does not ask at all.
    let answer = look_up(&open(&team));
    assert_missed(&answer, "the store is off: no answer within 270 ms");
    assert_eq!(answer.news, None);
}

#[test]
fn a_server_that_refuses_says_why() {
    for (answer, why) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "access is denied"),
        ("HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n", "503"),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "500"),
        ("no HTTP at all\r\n\r\n", "the store: "),
    ] {
        let team = Team::at(&s3(server(answer)));
        let answer = team.look_up_with(&options(&team));
        assert_missed(&answer, why);
        assert!(answer.news.is_some(), "{why}");
        assert_missed(&look_up(&open(&team)), "the store is off");
    }
}

#[test]
fn an_empty_store_is_not_off() {
    let team = Team::at(&s3(server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")));
    for _ in 0..2 {
        let answer = team.look_up_with(&options(&team));
        assert_missed(&answer, "no record by ci@example.com");
        assert_eq!(answer.news, None);
    }
}

#[test]
fn a_cut_or_endless_object_is_a_miss() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nknhk-test-cache shared 2\n-----BEGIN",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nknhk-\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    ] {
        let started = Instant::now();
        let found = look_up(&open(&Team::at(&s3(server(answer)))));
        assert_eq!(found.records, []);
        assert!(!found.misses.is_empty());
        assert!(started.elapsed() < GENEROUS);
    }
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [s3(port), format!("redis://127.0.0.1:{port}/0?team")] {
        let team = Team::at(&url);
        let answer = look_up(&open(&team));
        assert_missed(&answer, "the store: ");
        assert!(answer.news.is_some());
        assert_missed(&look_up(&open(&team)), "the store is off");
    }
}

#[test]
fn an_upload_to_a_store_that_is_off_fails_with_a_reason() {
    let team = Team::new();
    fs::write(team.path("store"), "a file").unwrap();
    let writer = team.writer(CI);
    assert!(publish(&writer, 1, &["a"]).unwrap_err().starts_with("the store: "));
    assert!(publish(&writer, 1, &["a"]).unwrap_err().starts_with("the store is off: "));
}
