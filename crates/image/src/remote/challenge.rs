//! `WWW-Authenticate`: what a registry asks for (RFC 9110, section 11; distribution's token specification).

use ureq::http::{HeaderMap, header};

/// What would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from an authority.
    Bearer(Bearer),
    /// User name and password.
    Basic,
}

/// `Bearer realm="…",service="…",scope="…"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// URL of the authority.
    pub(crate) realm: String,
    /// What the authority knows the registry as.
    pub(crate) service: String,
    /// What the registry wants to be granted; scopes with spaces in between.
    pub(crate) scope: String,
    /// Why a token was refused: `insufficient_scope`, `invalid_token`.
    pub(crate) error: String,
}

impl Challenge {
    /// The best of an answer's challenges: a token before a password.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut found: Vec<Challenge> = values.filter_map(Challenge::parse).collect();
        found.sort_by_key(|one| matches!(one, Challenge::Basic));
        found.into_iter().next()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let bearer = scheme.eq_ignore_ascii_case("bearer").then(|| Bearer::parse(rest))??;
        Some(Challenge::Bearer(bearer))
    }
}

impl Bearer {
    fn parse(mut rest: &str) -> Option<Self> {
        let mut found = Bearer::default();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            let slot = match key.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => Some(&mut found.realm),
                "service" => Some(&mut found.service),
                "scope" => Some(&mut found.scope),
                "error" => Some(&mut found.error),
                _ => None,
            };
            if let Some(slot) = slot {
                value.clone_into(slot);
            }
            rest = after;
        }
        (!found.realm.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"Bearer realm="https://a.b/token",service="reg, x",scope="repository:x:pull""#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(text) else { panic!() };
        assert_eq!((&*bearer.realm, &*bearer.service), ("https://a.b/token", "reg, x"));
        assert_eq!(bearer.scope, "repository:x:pull");
        let Some(Challenge::Bearer(plain)) = Challenge::parse("Bearer realm=https://a,service=b") else { panic!() };
        assert_eq!(plain.service, "b");
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for bad in ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_better_than_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().unwrap());
        headers.append(header::WWW_AUTHENTICATE, "Bearer realm=\"https://x\"".parse().unwrap());
        assert!(matches!(Challenge::of(&headers), Some(Challenge::Bearer(_))));
    }
}
