//! Stores that are servers: S3, what is compatible with it, and Redis.

use std::error::Error as _;
use std::time::Duration;

use opendal_core::{Error, ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use opendal_service_redis::Redis;
use opendal_service_s3::S3;

use super::store_url::Server;
use crate::process::Environment;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Opens the store of a server; does not speak to it yet.
///
/// # Errors
/// If the store cannot be described to its engine.
pub(super) fn open(server: &Server, environment: &Environment) -> Result<Operator, Error> {
    let variable =
        |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
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
        Server::Redis { endpoint, database, prefix } => {
            let password = variable("REDISCLI_AUTH").unwrap_or_default();
            let builder = Redis::default().endpoint(endpoint).db(*database).root(prefix);
            Operator::new(builder.password(&password))
        }
    }
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
