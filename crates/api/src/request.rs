//! A request as handlers see it: the path without its version, the query, typed access to both, and the body within
//! limits. Whatever is wrong with it is told in Docker's words.

use std::time::Duration;

use bytes::Bytes;
use engine::model::Map;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::upload::Unread;
use crate::version::Version;

/// Most bytes of a JSON body.
const LARGEST_JSON: usize = 8 << 20;
/// How long a client may take for the next part of a JSON body.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request.
pub(crate) struct Request {
    /// What is to be done.
    pub(crate) method: Method,
    /// The decoded path behind the version.
    pub(crate) path: String,
    /// The version of the API that the client speaks.
    pub(crate) version: Version,
    /// The headers.
    pub(crate) headers: HeaderMap,
    query: Vec<(String, String)>,
    raw: hyper::Request<Unread>,
}

impl Request {
    /// Takes a request apart. `path` is what stands behind the version.
    pub(crate) fn new(raw: hyper::Request<Incoming>, version: Version, path: String) -> Self {
        let query = parse_query(raw.uri().query().unwrap_or_default());
        Request {
            method: raw.method().clone(),
            path,
            version,
            headers: raw.headers().clone(),
            query,
            raw: raw.map(Unread::new),
        }
    }

    /// A parameter of the query, if it is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// A parameter of the query, even an empty one.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Docker's idea of truth: everything but nothing, `0`, `no`, `false` and `none`.
    pub(crate) fn boolean(&self, name: &str) -> bool {
        let value = self.given(name).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number, if the parameter is there and not empty.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || Failure::bad_request(format!("invalid value for {name}: \"{text}\": invalid syntax"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// `filters`: `{"key":{"value":true}}`, or the older `{"key":["value"]}`.
    pub(crate) fn filters(&self) -> Result<Map<Vec<String>>> {
        self.text("filters").map_or_else(|| Ok(Map::new()), parse_filters)
    }

    /// A time parameter: seconds since 1970 with decimals, RFC 3339, or a duration before now. In nanoseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || Failure::bad_request(format!("invalid value for \"{name}\": {text}"));
        engine::clock::parse(text).map(Some).ok_or_else(wrong)
    }

    /// Whether the body is said to be empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.raw.body().is_empty()
    }

    /// The body as JSON; the default where there is none.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        match self.document().await? {
            Some(document) => serde_json::from_value(document).map_err(invalid_json),
            None => Ok(T::default()),
        }
    }

    /// The body as a JSON document whose null members are left out, as Docker reads it; none where there is no body.
    pub(crate) async fn document(&mut self) -> Result<Option<Value>> {
        if self.is_empty() {
            return Ok(None);
        }
        check_type(self.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default())?;
        let bytes = self.small_body().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Failure::bad_request("invalid JSON: got EOF while reading request body"));
        }
        let mut documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let mut document = documents.next().unwrap_or(Ok(Value::Null)).map_err(invalid_json)?;
        if !bytes[documents.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
            return Err(Failure::bad_request("unexpected content after JSON"));
        }
        drop_nulls(&mut document);
        match document {
            Value::Null => Ok(None),
            // Structures could be read from lists too.
            Value::Object(_) => Ok(Some(document)),
            _ => Err(Failure::bad_request("invalid JSON: the body is not an object")),
        }
    }

    async fn small_body(&mut self) -> Result<Bytes> {
        let mut all = Vec::new();
        while let Some(part) = self.next_part(PATIENCE).await? {
            if all.len() + part.len() > LARGEST_JSON {
                let message = format!("the request body is larger than {LARGEST_JSON} bytes");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            all.extend_from_slice(&part);
        }
        Ok(all.into())
    }

    /// The next part of the body; none at its end.
    async fn next_part(&mut self, patience: Duration) -> Result<Option<Bytes>> {
        let body = self.raw.body_mut();
        loop {
            let frame = tokio::time::timeout(patience, body.next()).await;
            let late = |_| Failure::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time");
            let Some(frame) = frame.map_err(late)? else { return Ok(None) };
            let frame = frame.map_err(|error| Failure::bad_request(format!("read the request body: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The body, to be read as it comes.
    pub(crate) fn into_body(self) -> Unread {
        self.raw.into_body()
    }

    /// The connection itself, once the answer has said that the protocol changes.
    pub(crate) fn upgrade(&mut self) -> hyper::upgrade::OnUpgrade {
        hyper::upgrade::on(&mut self.raw)
    }

    /// Whether the client asks to change the protocol.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(hyper::header::UPGRADE)
    }
}

fn invalid_json(error: serde_json::Error) -> Failure {
    Failure::bad_request(format!("invalid JSON: {error}"))
}

fn check_type(value: &str) -> Result<()> {
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::bad_request(match kind {
        "" => format!("malformed Content-Type header ({value}): mime: no media type"),
        _ => format!("unsupported Content-Type header ({value}): must be 'application/json'"),
    }))
}

/// Leaves out every member that is null: for Docker that is the same as not being there. In a map whose keys are names,
/// it stands for the empty value.
fn drop_nulls(document: &mut Value) {
    match document {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                if let (Some(empty), Value::Object(map)) = (empty_value(key), &mut *value) {
                    map.values_mut().filter(|value| value.is_null()).for_each(|value| *value = empty.clone());
                }
                drop_nulls(value);
            }
            members.retain(|_, value| !value.is_null());
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What null stands for in the maps of that name.
fn empty_value(map: &str) -> Option<Value> {
    match map {
        "PortBindings" => Some(Value::Array(Vec::new())),
        "EndpointsConfig" | "ExposedPorts" | "Volumes" => Some(Value::Object(Default::default())),
        "Labels" | "DriverOpts" | "Options" | "Annotations" | "Sysctls" | "Tmpfs" | "StorageOpt" => Some("".into()),
        _ => None,
    }
}

/// `name=value&…`, decoded.
fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn parse_filters(text: &str) -> Result<Map<Vec<String>>> {
    let wrong = || Failure::bad_request("invalid filter");
    let document: Map<Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    document.into_iter().map(|(key, values)| Ok((key, filter_values(values).ok_or_else(wrong)?))).collect()
}

fn filter_values(values: Value) -> Option<Vec<String>> {
    match values {
        Value::Object(set) => {
            let chosen = set.into_iter().filter(|(_, given)| *given == Value::Bool(true));
            Some(chosen.map(|(value, _)| value).collect())
        }
        Value::Array(list) => list.into_iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = parse_query("a=1&b=x%2Fy+z&c&=&t=one&t=two");
        assert_eq!(query[1], ("b".to_owned(), "x/y z".to_owned()));
        assert_eq!(query[2], ("c".to_owned(), String::new()));
        assert_eq!(query.len(), 6);
    }

    #[test]
    fn filters_come_in_two_forms() {
        let wanted = Map::from([("label".to_owned(), vec!["a=b".to_owned()])]);
        assert_eq!(parse_filters(r#"{"label":{"a=b":true,"c":false}}"#).unwrap(), wanted);
        assert_eq!(parse_filters(r#"{"label":["a=b"]}"#).unwrap(), wanted);
        for bad in ["x", "[]", r#"{"label":"a"}"#, r#"{"label":[1]}"#] {
            assert_eq!(parse_filters(bad).unwrap_err().message, "invalid filter");
        }
    }

    #[test]
    fn null_is_nothing_but_in_maps_of_names() {
        let mut document = serde_json::json!({
            "Env": null, "HostConfig": { "PortBindings": { "80/tcp": null }, "Dns": null },
            "NetworkingConfig": { "EndpointsConfig": { "net": null } }, "Labels": { "a": null },
        });
        drop_nulls(&mut document);
        let wanted = serde_json::json!({
            "HostConfig": { "PortBindings": { "80/tcp": [] } },
            "NetworkingConfig": { "EndpointsConfig": { "net": {} } }, "Labels": { "a": "" },
        });
        assert_eq!(document, wanted);
    }

    #[test]
    fn only_json_is_read_as_json() {
        assert!(check_type("application/json; charset=utf-8").is_ok());
        assert!(check_type("").unwrap_err().message.contains("malformed Content-Type"));
        assert!(check_type("text/plain").unwrap_err().message.contains("must be 'application/json'"));
    }
}
