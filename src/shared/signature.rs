//! Signatures as OpenSSH makes them (`ssh-keygen -Y sign`), in a namespace of our own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512};
use ring::signature::{RsaParameters, RsaPublicKeyComponents};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::outside::{InsideTree, outside_tree};
use crate::model::Digest;
use crate::process::{Environment, Spec, capture};

/// The namespace: a signature over anything else says nothing to us.
pub(super) const NAMESPACE: &str = "verdict@knhk-test-cache";

/// A longer file holds no key.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// How long `ssh-keygen` may take; a hardware key may wait for a touch.
const EXTERNAL_SIGNING_LIMIT: Duration = Duration::from_secs(30);

/// The text that names a signer's folder: the digest that `ssh-keygen -l` shows, in hexadecimal,
/// since Base64 needs case and `/`.
pub(super) fn fingerprint(key: &KeyData) -> String {
    let bytes = key.fingerprint(HashAlg::Sha256).sha256().unwrap_or_default();
    Digest::from_bytes(bytes).to_string()
}

/// Why a signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSignature {
    /// No signature at all.
    #[error("it is not signed")]
    Missing,
    /// Something that is no SSH signature.
    #[error("its signature is damaged")]
    Malformed,
    /// The signature is another key's.
    #[error("it is signed by another key than that of its folder")]
    OtherSigner,
    /// One over something else.
    #[error("it is signed for `{0}`")]
    OtherNamespace(String),
    /// One that does not fit.
    #[error("its signature does not fit its content")]
    Wrong,
}

/// Whether `key` has signed `message` for us.
///
/// # Errors
/// If not.
pub(super) fn verify(key: &KeyData, message: &[u8], pem: &str) -> Result<(), BadSignature> {
    let signature = SshSig::from_pem(pem).map_err(|_| BadSignature::Malformed)?;
    if signature.public_key() != key {
        return Err(BadSignature::OtherSigner);
    }
    if signature.namespace() != NAMESPACE {
        return Err(BadSignature::OtherNamespace(signature.namespace().to_owned()));
    }
    match key {
        KeyData::Rsa(rsa) => {
            let parameters: &RsaParameters = match signature.algorithm() {
                Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => &RSA_PKCS1_2048_8192_SHA512,
                Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => &RSA_PKCS1_2048_8192_SHA256,
                _ => return Err(BadSignature::Wrong),
            };
            let (Some(n), Some(e)) = (rsa.n.as_positive_bytes(), rsa.e.as_positive_bytes()) else {
                return Err(BadSignature::Wrong);
            };
            let signed = SshSig::signed_data(NAMESPACE, signature.hash_alg(), message);
            let signed = signed.map_err(|_| BadSignature::Malformed)?;
            RsaPublicKeyComponents { n, e }
                .verify(parameters, &signed, signature.signature_bytes())
                .map_err(|_| BadSignature::Wrong)
        }
        key => PublicKey::from(key.clone())
            .verify(NAMESPACE, message, &signature)
            .map_err(|_| BadSignature::Wrong),
    }
}

/// Why there is no key to sign with, or it does not sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It belongs to the code under test.
    #[error("sign_with: {0}")]
    Inside(#[from] InsideTree),
    /// The file cannot be used.
    #[error("sign_with: {}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// `ssh-keygen` did not sign.
    #[error("sign_with: `ssh-keygen -Y sign -f {}` failed: {why}", path.display())]
    External {
        /// The file of the key.
        path: PathBuf,
        /// The last line that it printed.
        why: String,
    },
}

/// The key that records are signed with.
#[derive(Clone)]
pub(super) struct SigningKey {
    path: PathBuf,
    public: KeyData,
    /// The private key where we sign ourselves; `ssh-keygen` asks an agent otherwise.
    private: Option<PrivateKey>,
}

impl SigningKey {
    /// Reads the key of a file, which must lie outside the tree under test.
    ///
    /// # Errors
    /// If it lies inside that tree, or holds no key.
    pub(super) fn read(path: &Path, workspace_root: &Path) -> Result<Self, KeyError> {
        outside_tree(path, workspace_root)?;
        let unusable = |why: String| KeyError::Unusable { path: path.to_owned(), why };
        let metadata = fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > MAX_KEY_BYTES {
            return Err(unusable("it is no file of a key".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let path = path.to_owned();
        if let Ok(public) = PublicKey::from_openssh(text.trim()) {
            return Ok(Self { path, public: public.key_data().clone(), private: None });
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            let why = "other users may read this private key: `chmod 600` it".to_owned();
            return Err(KeyError::Unusable { path, why });
        }
        match PrivateKey::from_openssh(&text) {
            Ok(private) => {
                let public = private.public_key().key_data().clone();
                let is_ours =
                    matches!(public, KeyData::Ed25519(_)) || matches!(public, KeyData::Ecdsa(_));
                let private = Some(private).filter(|key| is_ours && !key.is_encrypted());
                Ok(Self { path, public, private })
            }
            // In the form of older programs, which `ssh-keygen` still reads.
            Err(error) => {
                let mut beside = path.clone().into_os_string();
                beside.push(".pub");
                let public = fs::read_to_string(&beside).ok();
                let public = public.and_then(|text| PublicKey::from_openssh(text.trim()).ok());
                match public {
                    Some(public) => {
                        Ok(Self { path, public: public.key_data().clone(), private: None })
                    }
                    None => Err(KeyError::Unusable { path, why: format!("no SSH key: {error}") }),
                }
            }
        }
    }

    /// The public half.
    pub(super) fn public(&self) -> &KeyData {
        &self.public
    }

    /// Whether we sign ourselves.
    pub(super) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// What signs, for people.
    pub(super) fn describe(&self) -> String {
        let how = if self.private.is_some() { "" } else { ", through ssh-keygen" };
        let print = self.public.fingerprint(HashAlg::Sha256);
        format!("{} ({print}{how})", self.path.display())
    }

    /// The signature over `message`, as a PEM block.
    ///
    /// # Errors
    /// If the key or `ssh-keygen` does not sign.
    pub(super) async fn sign(
        &self,
        message: &[u8],
        environment: &Environment,
    ) -> Result<String, KeyError> {
        let unusable = |why: String| KeyError::Unusable { path: self.path.clone(), why };
        let pem = match &self.private {
            Some(private) => {
                let signature = private.sign(NAMESPACE, HashAlg::Sha512, message);
                let signature = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
                signature.map_err(|error| unusable(error.to_string()))?
            }
            None => self.sign_externally(message, environment).await?,
        };
        verify(&self.public, message, &pem).map_err(|why| unusable(why.to_string()))?;
        Ok(pem)
    }

    async fn sign_externally(
        &self,
        message: &[u8],
        environment: &Environment,
    ) -> Result<String, KeyError> {
        let failed = |why: String| KeyError::External { path: self.path.clone(), why };
        let io = |error: std::io::Error| failed(error.to_string());
        let dir = tempfile::tempdir().map_err(io)?;
        let file = dir.path().join("payload");
        fs::write(&file, message).map_err(io)?;
        // A passphrase is never asked for: nobody may be there.
        let mut environment = environment.clone();
        environment.set("SSH_ASKPASS", "/bin/false");
        environment.set("SSH_ASKPASS_REQUIRE", "force");
        let spec = Spec::new("ssh-keygen", dir.path(), environment)
            .args(["-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(&self.path)
            .arg(&file);
        let ran = tokio::task::spawn_blocking(move || capture(&spec, EXTERNAL_SIGNING_LIMIT)).await;
        let output = match ran {
            Ok(output) => output.map_err(|error| failed(error.to_string()))?,
            Err(error) => return Err(failed(error.to_string())),
        };
        if !output.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            return Err(failed(last.map_or_else(|| output.end.to_string(), str::to_owned)));
        }
        fs::read_to_string(file.with_extension("sig")).map_err(io)
    }
}
