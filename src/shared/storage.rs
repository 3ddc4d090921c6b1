//! Objects in the storage that a URL names. The only file that knows the storage engines.

use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use opendal_core::{EntryMode, Error, ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use opendal_layer_retry::RetryLayer;
use opendal_service_fs::Fs;
use opendal_service_redis::Redis;
use opendal_service_s3::S3;
use url::Url;

use super::bundle::MAX_OBJECT_BYTES;
use crate::process::Environment;

/// How often an upload is tried again.
const UPLOAD_RETRIES: usize = 3;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where unfinished files lie in a folder store.
const UNFINISHED: &str = ".unfinished";

/// A place for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreUrl {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of S3 or of a compatible store.
    S3 { bucket: String, prefix: String, endpoint: Option<String>, region: Option<String> },
    /// A database of Redis.
    Redis { endpoint: String, database: i64, prefix: String },
}

/// Why a URL names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("url: {0}")]
pub(crate) struct BadUrl(String);

impl StoreUrl {
    /// Reads the URL of the config.
    ///
    /// # Errors
    /// If it names no store that is supported.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = |why: String| Err(BadUrl(why));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return bad(format!("{error}: it begins with file:, s3: or redis:")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return bad("it holds a user or a password: credentials come from variables".to_owned());
        }
        if url.fragment().is_some() {
            return bad("it has a part after `#`, which means nothing".to_owned());
        }
        let mut query: HashMap<String, String> =
            url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        let path = url.path().trim_matches('/').to_owned();
        let store = match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(path) if url.query().is_none() => Self::Folder(path),
                Ok(_) => return bad("a folder has no parameters after `?`".to_owned()),
                Err(()) => return bad("a folder is written file:///absolute/path".to_owned()),
            },
            "s3" => {
                let Some(bucket) = url.host_str().filter(|host| !host.is_empty()) else {
                    return bad("it names no bucket: s3://bucket/prefix".to_owned());
                };
                let bucket = bucket.to_owned();
                let (endpoint, region) = (query.remove("endpoint"), query.remove("region"));
                Self::S3 { bucket, prefix: path, endpoint, region }
            }
            "redis" => {
                let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
                    return bad("it names no host: redis://host:port/database".to_owned());
                };
                let database = if path.is_empty() { Ok(0) } else { path.parse() };
                let Ok(database) = database else {
                    return bad(format!("`{path}` is no number of a database"));
                };
                // `?prefix` and `?prefix=prefix` say the same.
                let prefix = match query.remove("prefix") {
                    Some(prefix) if !prefix.is_empty() => prefix,
                    Some(_) => "prefix".to_owned(),
                    None => match (query.len(), query.iter().next()) {
                        (1, Some((prefix, value))) if value.is_empty() => {
                            let prefix = prefix.clone();
                            query.clear();
                            prefix
                        }
                        _ => String::new(),
                    },
                };
                let endpoint = format!("redis://{host}:{}", url.port().unwrap_or(6379));
                Self::Redis { endpoint, database, prefix }
            }
            other => return bad(format!("`{other}:` is not supported, but file:, s3: and redis:")),
        };
        match query.into_keys().next() {
            Some(key) => bad(format!("`{key}` is no parameter of it")),
            None => Ok(store),
        }
    }
}

/// The objects of a store.
#[derive(Clone)]
pub(super) struct Storage {
    operator: Operator,
    retrying: Operator,
    /// The engine reads whole objects, so that the length is asked first.
    is_read_whole: bool,
}

/// Why an object is not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    /// There is no such object.
    #[error("there is no such object")]
    Absent,
    /// There is something that is no object of ours.
    #[error("it is no object of at most {MAX_OBJECT_BYTES} bytes")]
    Odd,
    /// The store does not serve us.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source.and_then(std::error::Error::source) {
            source = Some(inner);
        }
        let text = error.to_string();
        // A server's answer is told in words that only a debugger would want, but for this number.
        let status = text.split_once("status: ").map(|(_, rest)| rest);
        let status = status.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let status = status.filter(|digits| !digits.is_empty());
        let cause = match (status, source) {
            (Some(status), _) => format!(" (HTTP status {status})"),
            (None, Some(source)) => format!(": {source}"),
            (None, None) => String::new(),
        };
        let message = match error.message().lines().next().unwrap_or_default() {
            "" => "it failed",
            message => message,
        };
        Self::Failed(match error.kind() {
            ErrorKind::NotFound => return Self::Absent,
            ErrorKind::PermissionDenied => format!("access is denied{cause}"),
            ErrorKind::RateLimited => format!("it is asked too often{cause}"),
            _ => format!("{message}{cause}"),
        })
    }
}

impl Storage {
    /// Opens a store; does not speak to it yet.
    ///
    /// # Errors
    /// If the store cannot be described to its engine.
    pub(super) fn open(url: &StoreUrl, environment: &Environment) -> Result<Self, StorageError> {
        let variable =
            |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
        let operator = match url {
            StoreUrl::Folder(path) => {
                let Some(root) = path.to_str() else {
                    return Err(StorageError::Failed("its path is no text".to_owned()));
                };
                let unfinished = format!("{root}/{UNFINISHED}");
                let builder = Fs::default().root(root).atomic_write_dir(&unfinished);
                Operator::new(builder)?
            }
            StoreUrl::S3 { bucket, prefix, endpoint, region } => {
                // Instances of a cloud have an address of their own for credentials; elsewhere each
                // look-up would wait for nobody.
                let mut builder = S3::default().bucket(bucket).root(prefix).disable_ec2_metadata();
                if let Some(endpoint) = endpoint.clone().or_else(|| variable("AWS_ENDPOINT_URL")) {
                    builder = builder.endpoint(&endpoint);
                }
                let regions = ["AWS_REGION", "AWS_DEFAULT_REGION"];
                let region = region.clone().or_else(|| regions.into_iter().find_map(variable));
                builder = builder.region(region.as_deref().unwrap_or("us-east-1"));
                let secret = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(variable);
                if let [Some(id), Some(secret)] = secret {
                    builder = builder.access_key_id(&id).secret_access_key(&secret);
                    if let Some(token) = variable("AWS_SESSION_TOKEN") {
                        builder = builder.session_token(&token);
                    }
                }
                Operator::new(builder)?.with_context(http()?)
            }
            StoreUrl::Redis { endpoint, database, prefix } => {
                let password = variable("REDISCLI_AUTH").unwrap_or_default();
                let builder = Redis::default().endpoint(endpoint).db(*database).root(prefix);
                Operator::new(builder.password(&password))?
            }
        };
        let retry = RetryLayer::default().with_max_times(UPLOAD_RETRIES).with_jitter();
        let is_read_whole = !matches!(url, StoreUrl::S3 { .. });
        Ok(Self { retrying: operator.clone().layer(retry), operator, is_read_whole })
    }

    /// The bytes of an object, tried once.
    ///
    /// # Errors
    /// If there is none, or it cannot be had, or is too large.
    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>, StorageError> {
        if self.is_read_whole {
            let metadata = self.operator.stat(path).await?;
            let length = usize::try_from(metadata.content_length()).unwrap_or(usize::MAX);
            if metadata.mode() != EntryMode::FILE || length > MAX_OBJECT_BYTES {
                return Err(StorageError::Odd);
            }
        }
        let mut pieces = self.operator.reader(path).await?.into_stream(..).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend(piece.to_bytes());
            if bytes.len() > MAX_OBJECT_BYTES {
                return Err(StorageError::Odd);
            }
        }
        Ok(bytes)
    }

    /// Writes an object, tried several times.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        self.retrying.write(path, bytes).await?;
        Ok(())
    }
}

/// The transport of HTTP.
fn http() -> Result<OperationContext, StorageError> {
    let failed = |error: reqwest::Error| {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        StorageError::Failed(format!("HTTP cannot be spoken: {error}{cause}"))
    };
    // An error means that somebody has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(failed)?;
    let transport = HttpTransporter::new(ReqwestTransport::new(client));
    Ok(OperationContext::new().with_http_transport(transport))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_name_stores() {
        let s3 = |prefix: &str, endpoint: Option<&str>, region: Option<&str>| StoreUrl::S3 {
            bucket: "team".to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: region.map(str::to_owned),
        };
        let redis = |endpoint: &str, database: i64, prefix: &str| StoreUrl::Redis {
            endpoint: endpoint.to_owned(),
            database,
            prefix: prefix.to_owned(),
        };
        for (text, store) in [
            ("file:///var/cache/team", StoreUrl::Folder("/var/cache/team".into())),
            ("file:///a%20b", StoreUrl::Folder("/a b".into())),
            ("s3://team", s3("", None, None)),
            ("s3://team/a/b?region=eu-west-1", s3("a/b", None, Some("eu-west-1"))),
            (
                "s3://team/a?endpoint=http://127.0.0.1:9000&region=x",
                s3("a", Some("http://127.0.0.1:9000"), Some("x")),
            ),
            ("redis://cache.example", redis("redis://cache.example:6379", 0, "")),
            ("redis://cache.example:7000/2?team", redis("redis://cache.example:7000", 2, "team")),
            ("redis://[::1]/0?prefix=team", redis("redis://[::1]:6379", 0, "team")),
        ] {
            assert_eq!(StoreUrl::parse(text), Ok(store), "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (text, why) in [
            ("", "it begins with"),
            ("/var/cache", "it begins with"),
            ("file://host/path", "file:///absolute"),
            ("file:///a?b=c", "no parameters"),
            ("s3:///prefix", "no bucket"),
            ("s3://key:secret@bucket", "credentials"),
            ("s3://bucket?regoin=x", "regoin"),
            ("redis://host/name", "no number"),
            ("redis://host/0?a=b", "no parameter"),
            ("https://example.com", "not supported"),
            ("s3://bucket#x", "`#`"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(file|s3|redis)?:?/{0,3}.{0,60}") {
            let _ = StoreUrl::parse(&text);
        }
    }
}
