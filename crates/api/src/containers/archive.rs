//! `/containers/{id}/archive`: files from and to a container as archives, with what is at the path in a header. Works on
//! containers that do not run, too.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{ExtractOptions, PathStat};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::upload::Upload;
use crate::{Served, stream};

/// Where the answer says what is at the path.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// What is at a path.
pub(super) async fn look(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, path) = (name.to_owned(), path(request)?);
    let stat = served.engines.run(move |engine| engine.stat_path(&name, &path)).await?;
    with_stat(reply::status(StatusCode::OK), &stat)
}

/// An archive of what is at a path.
pub(super) async fn get(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let (name, path) = (name.to_owned(), path(request)?);
    let archive = served.engines.run(move |engine| engine.archive_path(&name, &path)).await?;
    let stat = archive.stat.clone();
    with_stat(stream::bytes(served, move |_, output| archive.write(output)).await?, &stat)
}

/// Unpacks an archive into a directory.
pub(super) async fn put(name: &str, request: Request, served: &Served) -> Result<Reply> {
    let (name, path) = (name.to_owned(), path(&request)?);
    let options = ExtractOptions {
        no_overwrite_dir_non_dir: request.boolean("noOverwriteDirNonDir"),
        copy_uid_gid: request.boolean("copyUIDGID"),
    };
    let mut upload = Upload::new(request.into_body());
    served.engines.run_long(move |engine| engine.extract_path(&name, &path, &mut upload, options)).await?;
    Ok(reply::status(StatusCode::OK))
}

fn path(request: &Request) -> Result<String> {
    let missing = || Failure::bad_request("bad parameter: pathcannot be empty");
    request.text("path").map(str::to_owned).ok_or_else(missing)
}

fn with_stat(mut reply: Reply, stat: &PathStat) -> Result<Reply> {
    let document = serde_json::to_vec(stat).map_err(|error| Failure::internal(format!("encode a path: {error}")))?;
    let value = HeaderValue::try_from(STANDARD.encode(document));
    reply.headers_mut().insert(STAT, value.map_err(|error| Failure::internal(error.to_string()))?);
    Ok(reply)
}
