//! Where a store is: the URL of the config.

use std::collections::HashMap;
use std::path::PathBuf;

use url::Url;

/// A place for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreLocation {
    /// A folder.
    Folder(PathBuf),
    /// What a server keeps.
    Server(Server),
}

/// A store that is asked over a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "shared"), allow(dead_code))] // A build without it only tells them apart.
pub(super) enum Server {
    /// A bucket of S3 or of a compatible store.
    S3 { bucket: String, prefix: String, endpoint: Option<String>, region: Option<String> },
    /// A bucket of Google Cloud Storage.
    Gcs { bucket: String, prefix: String, endpoint: Option<String> },
    /// A container of an account of Azure Blob Storage.
    Azure { account: String, container: String, prefix: String, endpoint: Option<String> },
    /// A database of Redis.
    Redis { endpoint: String, database: i64, prefix: String },
}

/// How URLs of stores begin.
const SCHEMES: &str = "file:, s3:, gs:, az: or redis:";

/// Why a URL names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("url: {0}")]
pub(crate) struct BadUrl(String);

impl StoreLocation {
    /// Reads the URL of the config.
    ///
    /// # Errors
    /// If it names no store that is supported.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = |why: String| Err(BadUrl(why));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return bad(format!("{error}: it begins with {SCHEMES}")),
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
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let store = match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(path) if url.query().is_none() => Self::Folder(path),
                Ok(_) => return bad("a folder has no parameters after `?`".to_owned()),
                Err(()) => return bad("a folder is written file:///absolute/path".to_owned()),
            },
            "s3" => {
                let Some(bucket) = host else {
                    return bad("it names no bucket: s3://bucket/prefix".to_owned());
                };
                let (endpoint, region) = (query.remove("endpoint"), query.remove("region"));
                Self::Server(Server::S3 { bucket, prefix: path, endpoint, region })
            }
            "gs" => {
                let Some(bucket) = host else {
                    return bad("it names no bucket: gs://bucket/prefix".to_owned());
                };
                let endpoint = query.remove("endpoint");
                Self::Server(Server::Gcs { bucket, prefix: path, endpoint })
            }
            "az" => {
                let (Some(container), Some(account)) = (host, query.remove("account")) else {
                    let form = "az://container/prefix?account=name";
                    return bad(format!("it names no container or no account: {form}"));
                };
                let endpoint = query.remove("endpoint");
                Self::Server(Server::Azure { account, container, prefix: path, endpoint })
            }
            "redis" => {
                let Some(host) = host else {
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
                Self::Server(Server::Redis { endpoint, database, prefix })
            }
            other => return bad(format!("`{other}:` is not supported: it begins with {SCHEMES}")),
        };
        match query.into_keys().next() {
            Some(key) => bad(format!("`{key}` is no parameter of it")),
            None => Ok(store),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_name_stores() {
        let s3 = |prefix: &str, endpoint: Option<&str>, region: Option<&str>| {
            StoreLocation::Server(Server::S3 {
                bucket: "team".to_owned(),
                prefix: prefix.to_owned(),
                endpoint: endpoint.map(str::to_owned),
                region: region.map(str::to_owned),
            })
        };
        let gcs = |prefix: &str, endpoint: Option<&str>| {
            StoreLocation::Server(Server::Gcs {
                bucket: "team".to_owned(),
                prefix: prefix.to_owned(),
                endpoint: endpoint.map(str::to_owned),
            })
        };
        let azure = |account: &str, prefix: &str, endpoint: Option<&str>| {
            StoreLocation::Server(Server::Azure {
                account: account.to_owned(),
                container: "team".to_owned(),
                prefix: prefix.to_owned(),
                endpoint: endpoint.map(str::to_owned),
            })
        };
        let redis = |endpoint: &str, database: i64, prefix: &str| {
            StoreLocation::Server(Server::Redis {
                endpoint: endpoint.to_owned(),
                database,
                prefix: prefix.to_owned(),
            })
        };
        for (text, store) in [
            ("file:///var/cache/team", StoreLocation::Folder("/var/cache/team".into())),
            ("file:///a%20b", StoreLocation::Folder("/a b".into())),
            ("s3://team", s3("", None, None)),
            ("s3://team/a/b?region=eu-west-1", s3("a/b", None, Some("eu-west-1"))),
            (
                "s3://team/a?endpoint=http://127.0.0.1:9000&region=x",
                s3("a", Some("http://127.0.0.1:9000"), Some("x")),
            ),
            ("gs://team/a", gcs("a", None)),
            ("gs://team?endpoint=http://127.0.0.1:9000", gcs("", Some("http://127.0.0.1:9000"))),
            ("az://team/a?account=acme", azure("acme", "a", None)),
            (
                "az://team?account=a&endpoint=http://127.0.0.1:9000/a",
                azure("a", "", Some("http://127.0.0.1:9000/a")),
            ),
            ("redis://cache.example", redis("redis://cache.example:6379", 0, "")),
            ("redis://cache.example:7000/2?team", redis("redis://cache.example:7000", 2, "team")),
            ("redis://[::1]/0?prefix=team", redis("redis://[::1]:6379", 0, "team")),
        ] {
            assert_eq!(StoreLocation::parse(text), Ok(store), "{text}");
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
            ("gs:///prefix", "no bucket"),
            ("gs://bucket?region=x", "region"),
            ("az://container", "no account"),
            ("az://?account=x", "no container"),
            ("s3://key:secret@bucket", "credentials"),
            ("s3://bucket?regoin=x", "regoin"),
            ("redis://host/name", "no number"),
            ("redis://host/0?a=b", "no parameter"),
            ("https://example.com", "not supported"),
            ("s3://bucket#x", "`#`"),
        ] {
            let error = StoreLocation::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(file|s3|gs|az|redis)?:?/{0,3}.{0,60}") {
            let _ = StoreLocation::parse(&text);
        }
    }
}
