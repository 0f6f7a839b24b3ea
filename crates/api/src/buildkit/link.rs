//! A result as the definition that clients hand from one build to another (linked targets of `bake`): BuildKit's own has
//! every operation in it, ours has one source that names the image.

use std::collections::HashMap;

use prost::Message as _;

use super::progress::digest;

/// How the source names our images.
const SCHEME: &str = "docker-image://kiste.local/build@";

/// `pb.Definition`: operations, each encoded; the last one points at the result.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Definition {
    #[prost(bytes = "vec", repeated, tag = "1")]
    operations: Vec<Vec<u8>>,
    /// Of each operation by its digest: clients insist on it.
    #[prost(map = "string, message", tag = "2")]
    metadata: HashMap<String, Metadata>,
}

/// `pb.OpMetadata`, of which nothing is needed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {}

/// `pb.Op`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(message, repeated, tag = "1")]
    inputs: Vec<Input>,
    #[prost(message, optional, tag = "3")]
    source: Option<Source>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Input {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    index: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Source {
    #[prost(string, tag = "1")]
    identifier: String,
}

impl Definition {
    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// The definition of an image of ours.
pub(super) fn write(id: &str) -> Definition {
    let source = Source { identifier: format!("{SCHEME}{id}") };
    let source = Operation { inputs: Vec::new(), source: Some(source) }.encode_to_vec();
    let end = Operation { inputs: vec![Input { digest: digest(&source), index: 0 }], source: None };
    let operations = vec![source, end.encode_to_vec()];
    let metadata = operations.iter().map(|bytes| (digest(bytes), Metadata {})).collect();
    Definition { operations, metadata }
}

/// The image that a definition of ours names.
pub(super) fn read(definition: &Definition) -> Option<String> {
    let operations = &definition.operations;
    let mut sources = operations.iter().filter_map(|bytes| Operation::decode(bytes.as_slice()).ok()?.source);
    let source = sources.next()?;
    // Together with others it is something that we did not make.
    if sources.next().is_some() || operations.len() > 2 {
        return None;
    }
    source.identifier.strip_prefix(SCHEME).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_back() {
        let definition = write("sha256:ab");
        assert_eq!(read(&definition).as_deref(), Some("sha256:ab"));
        let other = Definition { operations: [definition.operations, vec![Vec::new()]].concat(), ..definition };
        assert_eq!(read(&other), None);
        assert_eq!(read(&Definition::default()), None);
    }
}
