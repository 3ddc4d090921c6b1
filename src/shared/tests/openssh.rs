//! Signatures go both ways between OpenSSH and us.

use super::*;
use crate::process::{Output, Spec, capture};
use crate::shared::signature::{NAMESPACE, SigningKey, verify};
use crate::shared::signers::Signers;

const LIMIT: Duration = Duration::from_secs(60);

fn ssh(program: &str, dir: &Path, args: &[&str], environment: Environment) -> Output {
    let output = capture(&Spec::new(program, dir, environment).args(args), LIMIT).unwrap();
    assert!(output.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Whether OpenSSH is there; CI must have it.
fn is_there() -> bool {
    let environment = Environment::inherited();
    let found = environment.find_program(Path::new("ssh-keygen"), Path::new("/")).is_some();
    assert!(found || environment.get("KNHK_TEST_CACHE_CI").is_none(), "no ssh-keygen");
    if !found {
        eprintln!("skipped: there is no ssh-keygen");
    }
    found
}

const KINDS: [&[&str]; 4] = [
    &["-t", "ed25519"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
    &["-t", "rsa", "-b", "2048"],
];

/// A new key in `dir`.
fn generate(dir: &Path, kind: &[&str], passphrase: &str) -> PathBuf {
    let args = [&["-q", "-N", passphrase, "-f", "key"], kind].concat();
    ssh("ssh-keygen", dir, &args, Environment::inherited());
    dir.join("key")
}

fn trust(dir: &Path) -> String {
    let public = fs::read_to_string(dir.join("key.pub")).unwrap();
    let line = format!("ci@example.com namespaces=\"{NAMESPACE}\" {public}");
    fs::write(dir.join("allowed_signers"), &line).unwrap();
    line
}

#[test]
fn openssh_verifies_what_we_sign_and_we_what_it_signs() {
    if !is_there() {
        return;
    }
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (dir, path) = (dir.path(), generate(dir.path(), kind, ""));
        let line = trust(dir);
        let signer = &Signers::parse(&line).at(Timestamp::now())[0];
        let message = b"the very payload";
        let key = SigningKey::read(&path, Path::new("/nonexistent/workspace")).unwrap();
        let ours = block_on(key.sign(message, &Environment::inherited())).unwrap();
        fs::write(dir.join("ours"), &ours).unwrap();
        fs::write(dir.join("message"), message).unwrap();
        let check = format!(
            "ssh-keygen -Y verify -f allowed_signers -I ci@example.com -n {NAMESPACE} -s ours < message"
        );
        ssh("sh", dir, &["-c", &check], Environment::inherited());
        let args = ["-Y", "sign", "-n", NAMESPACE, "-f", "key", "message"];
        ssh("ssh-keygen", dir, &args, Environment::inherited());
        let theirs = fs::read_to_string(dir.join("message.sig")).unwrap();
        assert_eq!(verify(&signer.key, message, &theirs), Ok(()), "{kind:?}");
        assert!(verify(&signer.key, b"another payload", &theirs).is_err());
    }
}

#[test]
fn an_object_is_taken_apart_with_a_shell() {
    if !is_there() {
        return;
    }
    let team = Team::new();
    publish(&team.writer(CI), 1, &["a"]).unwrap();
    let object = team.object(CI, ObjectKind::Tree);
    let check = format!(
        "export LC_ALL=C; sed -n '/BEGIN SSH/,/END SSH/p' {0} > sig; sed '1,/END SSH/d' {0} > payload
         ssh-keygen -Y verify -f allowed_signers -I ci@example.com -n {NAMESPACE} -s sig < payload
         gzip -dc < payload | grep -q '\"format\":2'",
        object.display()
    );
    ssh("sh", team.dir.path(), &["-ec", &check], Environment::inherited());
}

#[test]
fn an_agent_signs_where_only_the_public_key_is_named() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = generate(dir, KINDS[0], "secret");
    let root = Path::new("/nonexistent/workspace");
    // Encrypted, and no agent: an error, and no question.
    let mut environment = Environment::inherited();
    environment.remove("SSH_AUTH_SOCK");
    let key = SigningKey::read(&path, root).unwrap();
    assert!(block_on(key.sign(b"m", &environment)).unwrap_err().to_string().contains("ssh-keygen"));
    // An agent for as long as one command runs.
    let plain = dir.join("plain");
    fs::create_dir(&plain).unwrap();
    let path = generate(&plain, KINDS[0], "");
    fs::write(plain.join("message"), "m").unwrap();
    let script = format!(
        "ssh-add -q {0} && rm {0} && ssh-keygen -Y sign -q -n {NAMESPACE} -f {0}.pub message",
        path.display()
    );
    ssh("ssh-agent", &plain, &["sh", "-c", &script], environment);
    let public = SigningKey::read(&plain.join("key.pub"), root).unwrap();
    let signature = fs::read_to_string(plain.join("message.sig")).unwrap();
    assert_eq!(verify(public.public(), b"m", &signature), Ok(()));
    assert!(public.describe().contains("through ssh-keygen"));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let team = Team::new();
    let path = team.key_file(CI);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = publish(&team.writer(CI), 1, &["a"]).unwrap_err();
    assert!(error.contains("chmod 600"), "{error}");
    fs::write(&path, "no key").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(publish(&team.writer(CI), 1, &["a"]).unwrap_err().contains("no SSH key"));
}
