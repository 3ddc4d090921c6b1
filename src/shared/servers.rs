//! Stores that are servers: S3 and what is compatible with it, the stores of Google and Azure, Redis.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use opendal_core::{Error, ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use opendal_service_azblob::Azblob;
use opendal_service_gcs::Gcs;
use opendal_service_redis::Redis;
use opendal_service_s3::S3;
use reqsign_google::{FileCredentialProvider, ServiceAccountTokenCredentialProvider};

use super::store_url::Server;
use crate::process::Environment;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Opens the store of a server; does not speak to it yet.
///
/// # Errors
/// If the store cannot be described to its engine.
pub(super) fn open(server: &Server, environment: &Environment) -> Result<Operator, Error> {
    let variable = |name: &str| variable(environment, name);
    match server {
        Server::S3 { bucket, prefix, endpoint, region } => {
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
            Ok(Operator::new(builder)?.with_context(http()?))
        }
        Server::Gcs { bucket, prefix, endpoint } => {
            // As for S3: only a machine of the cloud has somebody to ask.
            let mut builder = Gcs::default().bucket(bucket).root(prefix).disable_vm_metadata();
            if let Some(endpoint) = endpoint {
                builder = builder.endpoint(endpoint);
            }
            let builder = match google_credentials(environment) {
                // Its key alone would be exchanged for a token at every request.
                Some(file) if is_of_service(&file) => {
                    let file = FileCredentialProvider::new(file);
                    let token = ServiceAccountTokenCredentialProvider::from_provider(file);
                    builder.credential_provider(token)
                }
                Some(file) => builder.credential_path(&file),
                None => builder.skip_signature(),
            };
            Ok(Operator::new(builder)?.with_context(http()?))
        }
        Server::Azure { account, container, prefix, endpoint } => {
            let of_account = || format!("https://{account}.blob.core.windows.net");
            let endpoint = endpoint.clone().unwrap_or_else(of_account);
            let builder = Azblob::default().container(container).root(prefix).endpoint(&endpoint);
            let builder = builder.account_name(account);
            let first = |names: [&str; 2]| names.into_iter().find_map(variable);
            let key = first(["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]);
            let builder = match (key, variable("AZURE_STORAGE_SAS_TOKEN")) {
                (Some(key), _) => builder.account_key(&key),
                (None, Some(token)) => builder.sas_token(token.trim_start_matches('?')),
                (None, None) => builder.skip_signature(),
            };
            Ok(Operator::new(builder)?.with_context(http()?))
        }
        Server::Redis { endpoint, database, prefix } => {
            let password = variable("REDISCLI_AUTH").unwrap_or_default();
            let builder = Redis::default().endpoint(endpoint).db(*database).root(prefix);
            Operator::new(builder.password(&password))
        }
    }
}

/// The file of Google's application default credentials, where its tools and libraries look for it.
/// Without one, what everybody may read is read.
fn google_credentials(environment: &Environment) -> Option<String> {
    if let Some(file) = variable(environment, "GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(file);
    }
    let folder = match variable(environment, "CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable(environment, "HOME")?).join(".config/gcloud"),
    };
    let file = folder.join("application_default_credentials.json");
    file.is_file().then(|| file.to_string_lossy().into_owned())
}

/// Whether the credentials are the key of a service account.
fn is_of_service(file: &str) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    let read: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    read.is_some_and(|read| read["type"] == "service_account")
}

/// The value of a variable. CI sets those of secrets that a job may not have to nothing.
fn variable(environment: &Environment, name: &str) -> Option<String> {
    let value = environment.get(name)?.to_string_lossy().into_owned();
    Some(value).filter(|value| !value.is_empty())
}

/// The transport of HTTP.
fn http() -> Result<OperationContext, Error> {
    let failed = |error: reqwest::Error| {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Error::new(ErrorKind::ConfigInvalid, format!("HTTP cannot be spoken: {error}{cause}"))
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
