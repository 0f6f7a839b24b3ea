//! The `--filter key=value` flag. Which keys there are and what they mean is the engine's business.

use engine::model::Map;

/// One `key=value`.
pub(crate) type Filter = (String, String);

/// Parses one; the parser of the flag.
pub(crate) fn parse(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((key.trim().to_lowercase(), value.trim().to_owned()))
}

/// All filters, by key.
pub(crate) fn collect(filters: Vec<Filter>) -> Map<Vec<String>> {
    let mut map: Map<Vec<String>> = Map::new();
    for (key, value) in filters {
        map.entry(key).or_default().push(value);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_collect_by_key() {
        let parsed = ["label=a=b", "Status=running", "label!=c"].map(|text| parse(text).unwrap());
        let map = collect(parsed.to_vec());
        assert_eq!(map["label"], ["a=b"]);
        assert_eq!(map["status"], ["running"]);
        assert_eq!(map["label!"], ["c"]);
        assert_eq!(parse("foo").unwrap_err(), "bad format of filter (expected name=value)");
    }
}
