//! Clients of the stream of events: many at once, and some that do not behave.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{GREEN, RED, watch_on_a_pipe};
use crate::home::{Home, LIMIT, takes_long, until};

/// So many clients may watch at once.
const LIMIT_OF_CLIENTS: usize = 32;

fn request(call: &Value) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{}\n", json!({"protocol": 1, "version": version, "call": call}))
}

/// A client that has asked for the events of all projects, and reads nothing.
fn subscribe(home: &Home) -> UnixStream {
    let mut stream = UnixStream::connect(home.paths().socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let call = json!({"method": "subscribe", "project": null});
    stream.write_all(request(&call).as_bytes()).unwrap();
    stream
}

/// A client that reads.
struct EventReader(BufReader<UnixStream>);

impl EventReader {
    fn new(home: &Home) -> Self {
        let mut this = Self(BufReader::new(subscribe(home)));
        assert_eq!(this.reply().unwrap()["type"], "subscribed");
        this
    }

    /// The next line; none at the end.
    fn reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = match self.0.read_line(&mut line) {
            // It has closed without reading a word that makes no sense.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            read => read.expect("the daemon says something in time"),
        };
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The next event that is wanted.
    #[track_caller]
    fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let reply = self.reply().expect("the stream goes on");
            if reply["type"] == "event" && wanted(&reply["event"]) {
                return reply["event"].clone();
            }
        }
    }

    fn verdict(&mut self, verdict: &str) -> Value {
        self.event(|event| event["type"] == "verdict" && event["verdict"] == verdict)
    }
}

fn watched() -> Home {
    let home = Home::with(&[("src/lib.rs", GREEN)]);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    home
}

#[test]
fn many_clients_hear_the_same_and_those_beyond_the_limit_are_told() {
    if takes_long() {
        return;
    }
    let home = watched();
    let daemon = home.daemon();
    let mut clients: Vec<_> = (0..LIMIT_OF_CLIENTS).map(|_| EventReader::new(&home)).collect();
    for client in &mut clients {
        client.verdict("pass");
    }
    let mut late = EventReader::new(&home);
    let refused = until("it is refused", || late.reply().filter(|reply| reply["type"] == "error"));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("32 clients") && message.contains("close one"), "{message}");
    assert_eq!(late.reply(), None);

    // A place is free again once a client has gone, or has said a word that makes no sense.
    drop(clients.pop());
    let mut rude = clients.pop().unwrap();
    rude.0.get_mut().write_all(b"\xff\0garbage\n").unwrap();
    while rude.reply().is_some() {}
    for _ in 0..2 {
        let mut client = until("there is room", || {
            let mut client = EventReader::new(&home);
            (client.reply()?["type"] == "event").then_some(client)
        });
        client.event(|event| event["type"] == "synced");
        clients.push(client);
    }
    home.write("src/lib.rs", RED);
    let told: Vec<_> = clients.iter_mut().map(|client| client.verdict("fail")).collect();
    assert!(told.iter().all(|verdict| *verdict == told[0]), "{told:#?}");
    daemon.stop();
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_the_others_go_on() {
    if takes_long() {
        return;
    }
    let home = watched();
    let daemon = home.daemon();
    let deaf = subscribe(&home);
    let mut reader = EventReader::new(&home);
    let mut asking = UnixStream::connect(home.paths().socket()).unwrap();
    asking.set_read_timeout(Some(LIMIT)).unwrap();
    let mut replies = BufReader::new(asking.try_clone().unwrap());
    let mut token = 0u64;
    until("the daemon drops the client", || {
        for _ in 0..100 {
            token += 1;
            let call = json!({"method": "confirm", "project": home.root, "token": token});
            asking.write_all(request(&call).as_bytes()).unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            reader.event(|event| event["type"] == "confirmed" && event["token"] == token);
        }
        let mut fds = [PollFd::new(&deaf, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        fds[0].revents().contains(PollFlags::HUP).then_some(())
    });
    home.write("src/lib.rs", RED);
    reader.verdict("fail");
    daemon.stop();
}

/// The lines of `watch --format json`, and what ends it.
fn json_events(home: &Home) -> (std::process::Child, Receiver<Value>) {
    let mut watch = watch_on_a_pipe(home, &["--format", "json"]);
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let (tell, events) = channel();
    std::thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok);
        let mut values = lines.map(|line| serde_json::from_str(&line).unwrap());
        values.try_for_each(|event: Value| tell.send(event))
    });
    (watch, events)
}

#[track_caller]
fn wait_for(events: &Receiver<Value>, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = events.recv_timeout(LIMIT).expect("the event comes");
        if wanted(&event) {
            return event;
        }
    }
}

#[test]
fn a_view_outlives_its_daemon_and_its_workspace() {
    if takes_long() {
        return;
    }
    let home = watched();
    let daemon = home.daemon();
    let (mut watch, events) = json_events(&home);
    let is = |kind: &'static str| move |event: &Value| event["type"] == kind;
    assert_eq!(wait_for(&events, is("hello"))["daemon"], true);
    let passed = wait_for(&events, is("tests"));
    assert_eq!(passed["tests"][0]["outcome"], "ok");
    assert_eq!(
        (&passed["tests"][0]["file"], &passed["tests"][0]["line"]),
        (&json!("src/lib.rs"), &json!(2))
    );
    wait_for(&events, |event| event["type"] == "verdict" && event["verdict"] == "pass");

    daemon.signal(Signal::KILL);
    wait_for(&events, is("disconnected"));
    drop(daemon);
    let daemon = home.daemon();
    wait_for(&events, is("hello"));
    wait_for(&events, |event| event["type"] == "verdict" && event["verdict"] == "pass");

    let gone = home.base.join("gone");
    fs::rename(&home.root, &gone).unwrap();
    wait_for(&events, |event| event["type"] == "project" && event["state"] == "missing");
    fs::rename(&gone, &home.root).unwrap();
    wait_for(&events, |event| event["type"] == "verdict" && event["verdict"] == "pass");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let mut stderr = String::new();
    watch.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    daemon.stop();
}
