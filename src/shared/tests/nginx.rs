//! A bucket behind nginx, which does what networks and balancers do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use super::servers::{Server, bucket, patiently};
use super::*;

/// Far more than a look-up may take, for machines that are busy.
const GENEROUS: Duration = Duration::from_secs(30);

fn url(port: u16) -> String {
    format!("s3://team/verdicts?endpoint=http://127.0.0.1:{port}&region=us-east-1")
}

/// A port of which nothing is heard: connections are accepted by the kernel alone.
fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A server whose answers end in the middle.
fn cut_short() -> u16 {
    let listener = silent();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n";
            let _ =
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[b'x'; 5000]));
        }
    });
    port
}

/// What nginx has at each of its ports, in this order.
const PLACES: [&str; 6] = ["fair", "unavailable", "slow", "cut", "silent", "dead"];

/// The configuration of nginx in `dir`.
fn configuration(dir: &Path, ports: [u16; 6], bucket: u16, silent: u16) -> String {
    let to = |port: u16| format!("proxy_pass http://127.0.0.1:{port};");
    let dead = silent_port_of_nobody();
    let does = [
        to(bucket),
        "return 503;".to_owned(),
        format!("{} limit_rate 10k;", to(bucket)),
        to(cut_short()),
        to(silent),
        to(dead),
    ];
    let servers = ports.iter().zip(does).map(|(port, does)| {
        format!("server {{ listen 127.0.0.1:{port}; location / {{ {does} }} }}\n")
    });
    let servers: String = servers.collect();
    let dir = dir.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String =
        kinds.iter().map(|kind| format!("{kind}_temp_path {dir}/{kind};\n")).collect();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\npid {dir}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{folders}proxy_set_header Host $http_host;\n{servers}}}\n"
    )
}

/// A port at which nobody listens.
fn silent_port_of_nobody() -> u16 {
    silent().local_addr().unwrap().port()
}

#[test]
fn a_bucket_behind_a_balancer() {
    let Some(server) = bucket() else { return };
    let dir = tempfile::tempdir().unwrap();
    let quiet = silent();
    let file = dir.path().join("nginx.conf");
    let others: [u16; 5] = std::array::from_fn(|_| silent_port_of_nobody());
    let args = |first: u16| {
        let [a, b, c, d, e] = others;
        let ports = [first, a, b, c, d, e];
        let quiet = quiet.local_addr().unwrap().port();
        fs::write(&file, configuration(dir.path(), ports, server.port, quiet)).unwrap();
        ["-p", dir.path().to_str().unwrap(), "-e", "stderr", "-c", file.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec()
    };
    let Some(nginx) = Server::start("nginx", args) else { return };

    // So much that 10 kB a second are too few.
    let team = Team::at(&url(nginx.port));
    let options = StoreOptions { environment: with_credentials(), ..team.options() };
    let sign_with = Some(team.key_file(CI));
    let writer = StoreOptions { write: true, sign_with: sign_with.clone(), ..options.clone() };
    let large: String =
        (0..3000).map(|number: u32| digest(&number.to_string()).to_string()).collect();
    let body = json!({ "of": "a", "more": large });
    let records = vec![SharedRecord { body, ..record("a") }];
    let publication = Publication { place: place(1), records };
    let writer = SharedStore::open(writer).unwrap();
    assert_eq!(block_on(writer.publish(publication)).unwrap(), 1);
    let fair = || {
        let answer = patiently(&team, &options);
        assert_eq!(bodies(&answer), ["a", "a"], "{:?}", answer.misses);
    };
    fair();
    let reasons =
        ["503", "no answer within 270 ms", "the store: ", "no answer within 270 ms", "502"];
    for ((place, port), why) in PLACES[1..].iter().zip(others).zip(reasons) {
        let there = Team::at(&url(port));
        let open = || {
            let environment = with_credentials();
            SharedStore::open(StoreOptions { environment, ..there.options() }).unwrap()
        };
        let started = Instant::now();
        let answer = look_up(&open());
        // A machine that is very busy hears nothing in time.
        let late = answer.misses.iter().any(|miss| miss.contains("no answer within"));
        assert_missed(&answer, if late { "no answer within" } else { why });
        assert!(answer.news.is_some() && started.elapsed() < GENEROUS, "{place}");
        assert_missed(&look_up(&open()), "the store is off");
        fair();
    }
    let refused = StoreOptions { url: url(others[0]), write: true, sign_with, ..options.clone() };
    let refused = StoreOptions { state_dir: team.path("other"), ..refused };
    let refused = SharedStore::open(refused).unwrap();
    let error = publish(&refused, 1, &["b"]).unwrap_err();
    assert!(error.contains("503"), "{error}");
    fair();
}
