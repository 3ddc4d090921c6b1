//! Foreign users, garbage and silence at the socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::home::{EXE, Home, LIMIT, is_root, skip};

fn say(home: &Home, words: &[u8]) -> String {
    let mut stream = UnixStream::connect(home.paths().socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // It may refuse, and close, before it has read everything.
    let _ = stream.write_all(words);
    let _ = stream.shutdown(Shutdown::Write);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8(reply).unwrap()
}

#[test]
fn the_daemon_survives_garbage_partial_and_oversized_messages() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    let monster = vec![b'{'; (16 << 20) + 100_000];
    let deep = [vec![b'['; 1 << 20], b"\n".to_vec()].concat();
    let halves: [&[u8]; 6] = [
        b"hello\n",
        b"\xff\xfe\0\n",
        b"{\"protocol\":1,",
        b"\n\n",
        b"null\n{}\n",
        b"{\"protocol\":1,\"version\":\"x\"}\n",
    ];
    for words in halves.into_iter().chain([monster.as_slice(), deep.as_slice()]) {
        let reply = say(&home, words);
        // A reply may be lost with the connection; if it comes, it is one of these.
        let known = ["\"error\"", "\"refused\""].iter().any(|word| reply.contains(word));
        assert!(reply.is_empty() || known, "{reply}");
        home.test(&[]).green_from("cache");
    }
    // Silent connections block no other client.
    let silent: Vec<_> =
        (0..20).map(|_| UnixStream::connect(home.paths().socket()).unwrap()).collect();
    home.test(&[]).green_from("cache");
    drop(silent);
    daemon.stop();
    assert!(!home.paths().socket().exists());
}

#[test]
fn another_user_at_the_socket_is_refused() {
    if !is_root() {
        return skip("another user at the socket", "only root can be another user");
    }
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    // Open what protects it, to see what is behind.
    let socket = home.paths().socket();
    for (path, mode) in [(home.base.clone(), 0o755), (home.base.join("run"), 0o755)]
        .into_iter()
        .chain([(home.paths().runtime_dir, 0o755), (socket.clone(), 0o777)])
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let exe = home.base.join("out/exe");
    fs::copy(EXE, &exe).unwrap();
    let exe = exe.display().to_string();
    let line = ["--reuid", "65534", "--regid", "65534", "--clear-groups", &exe, "status"];
    let ran = home.start("setpriv", &line).end(LIMIT);
    assert!(ran.stderr.contains("belongs to user 0"), "{ran:#?}");
    assert!(!ran.stdout.contains("Running"), "{ran:#?}");
    // The client does not ask there. It connects to the same socket in a folder of its own.
    let theirs = home.base.join("theirs");
    let folder = theirs.join(home.paths().runtime_dir.file_name().unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::hard_link(&socket, folder.join(socket.file_name().unwrap())).unwrap();
    for owned in [&theirs, &folder] {
        std::os::unix::fs::chown(owned, Some(65534), Some(65534)).unwrap();
    }
    let theirs = format!("XDG_RUNTIME_DIR={}", theirs.display());
    let ran = home.start("env", &[&[&theirs, "setpriv"], &line[..]].concat()).end(LIMIT);
    assert!(ran.stderr.contains("it belongs to user 0"), "{ran:#?}");
    assert!(!ran.stdout.contains("Running"), "{ran:#?}");
    home.test(&[]).green_from("run");
    assert!(daemon.stderr().contains("refused a connection"), "{}", daemon.stderr());
    daemon.stop();
}

/// A daemon that answers every connection with the same words.
fn impostor(home: &Home, words: &'static str) {
    let socket = home.paths().socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 64 * 1024]);
            let _ = stream.write_all(words.as_bytes());
        }
    });
}

#[test]
fn a_socket_where_others_can_write_is_sent_nothing() {
    let home = Home::with(&[]);
    home.config("", "");
    let folder = home.paths().runtime_dir;
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let listener = UnixListener::bind(home.paths().socket()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("others can write into"), "{answer:#?}");
    assert!(answer.ran.stderr.contains("chmod 700"), "{answer:#?}");
    assert!(listener.accept().is_err(), "it has connected");
}

#[test]
fn silent_connections_of_the_user_mute_nobody() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    let socket = home.paths().socket();
    let silent: Vec<_> = (0..150).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in 0..3 {
        let answer = home.test(&[]);
        answer.green_from("cache");
        assert!(!answer.ran.stderr.contains("working without it"), "{answer:#?}");
    }
    drop(silent);
    daemon.stop();
}

#[test]
fn a_daemon_of_another_version_never_gives_an_answer() {
    let home = Home::with(&[]);
    home.config("", "");
    impostor(&home, "{\"type\":\"refused\",\"version\":\"99.0.0\",\"reason\":\"protocol 9\"}\n");
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(answer.ran.stderr.contains("99.0.0"), "{answer:#?}");
    home.test(&[]).green_from("cache");
    let status = home.run(&["status"]);
    assert!(status.stderr.contains("99.0.0"), "{status:#?}");
    let rebuild = home.run(&["rebuild"]);
    assert_eq!(rebuild.code, Some(1), "{rebuild:#?}");
    assert!(rebuild.stderr.contains("99.0.0"), "{rebuild:#?}");
}

#[test]
fn a_confused_or_silent_daemon_is_bypassed() {
    let home = Home::with(&[]);
    home.config("", "");
    impostor(&home, "hello\n");
    home.test(&[]).green_from("run");
    impostor(&home, "{\"type\":\"wor");
    home.test(&[]).green_from("cache");
    // Accepts and says nothing, as a daemon that is stopped by a signal would.
    let socket = home.paths().socket();
    fs::remove_file(&socket).unwrap();
    let silent = UnixListener::bind(&socket).unwrap();
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert!(answer.ran.stderr.contains("said nothing"), "{answer:#?}");
    drop(silent);
}
