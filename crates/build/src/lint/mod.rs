//! The checks of Dockerfiles: BuildKit's rules (`frontend/dockerfile/linter`) with their names and texts. What is an error
//! in any case is found by the parser.

mod rules;
mod variables;

use crate::dockerfile::Dockerfile;
use crate::event::Warning;
use crate::ignore::Matcher;
use crate::request::Request;
use crate::{Error, Span};

/// What `# check=` or `BUILDKIT_DOCKERFILE_CHECK` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    skipped: Vec<String>,
    all_skipped: bool,
    experimental: Vec<String>,
    as_errors: bool,
}

impl Settings {
    /// `skip=A,B;error=true;experimental=C`
    fn parse(text: &str) -> Self {
        let mut settings = Settings::default();
        for field in text.split(';') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
            match key.trim() {
                "skip" if value.trim().eq_ignore_ascii_case("all") => settings.all_skipped = true,
                "skip" => settings.skipped = names(),
                "experimental" => settings.experimental = names(),
                "error" => settings.as_errors = value.trim().eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        settings
    }

    fn of(file: &Dockerfile, request: &Request) -> Self {
        let given = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK");
        given.or(file.check.as_deref()).map_or_else(Settings::default, Settings::parse)
    }

    fn wants(&self, rule: &Rule) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(rule.name));
        if rule.experimental {
            return among(&self.experimental) || self.experimental.iter().any(|name| name == "all");
        }
        !self.all_skipped && !among(&self.skipped)
    }
}

/// A rule.
struct Rule {
    name: &'static str,
    description: &'static str,
    experimental: bool,
}

const fn rule(name: &'static str, description: &'static str) -> Rule {
    Rule { name, description, experimental: false }
}

impl Rule {
    /// `StageNameCasing` → `stage-name-casing`.
    fn url(&self) -> String {
        let mut path = String::new();
        let letters: Vec<char> = self.name.chars().collect();
        for (index, letter) in letters.iter().enumerate() {
            let after_small = index > 0 && letters[index - 1].is_ascii_lowercase();
            let before_small = letters.get(index + 1).is_some_and(char::is_ascii_lowercase);
            if letter.is_ascii_uppercase() && index > 0 && (after_small || before_small) {
                path.push('-');
            }
            path.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{path}/")
    }
}

/// What is found, in the order of the lines.
struct Findings {
    settings: Settings,
    list: Vec<Warning>,
}

impl Findings {
    fn add(&mut self, rule: &Rule, span: Span, message: impl Into<String>) {
        let (name, description) = (rule.name, rule.description);
        let warning = Warning { rule: name, description, url: rule.url(), message: message.into(), span: Some(span) };
        if self.settings.wants(rule) && !self.list.contains(&warning) {
            self.list.push(warning);
        }
    }
}

/// What a check looks at.
struct Subject<'f> {
    file: &'f Dockerfile,
    request: &'f Request,
    /// What the context leaves out.
    ignore: &'f Matcher,
    /// The environment of a base image, if that is known.
    environment: &'f dyn Fn(&str) -> Option<Vec<String>>,
}

/// Checks a Dockerfile. `environment` says what variables a base image has, if it is at hand.
pub(crate) fn check(
    file: &Dockerfile,
    request: &Request,
    ignore: &[String],
    environment: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Vec<Warning> {
    let mut findings = Findings { settings: Settings::of(file, request), list: Vec::new() };
    let ignore = Matcher::new(ignore).unwrap_or_default();
    let subject = Subject { file, request, ignore: &ignore, environment };
    rules::check(&subject, &mut findings);
    variables::check(&subject, &mut findings);
    findings.list.sort_by_key(|warning| warning.span.map(|span| span.first));
    findings.list
}

/// The error that findings are, if the Dockerfile wants them to be.
pub(crate) fn as_errors(file: &Dockerfile, request: &Request, warnings: &[Warning]) -> Option<Error> {
    if warnings.is_empty() || !Settings::of(file, request).as_errors {
        return None;
    }
    let mut names: Vec<&str> = warnings.iter().map(|warning| warning.rule).collect();
    names.sort_unstable();
    names.dedup();
    let error = Error::new(format!("lint violation found for rules: {}", names.join(", ")));
    Some(warnings[0].span.map_or(error.clone(), |span| error.at(span)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn found(source: &str) -> Vec<(&'static str, String, usize)> {
        let request = Request::default();
        let environment = |name: &str| (name == "known").then(|| vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()]);
        let warnings = check(&parse(source.as_bytes()).unwrap(), &request, &["*.log".to_owned()], &environment);
        warnings.into_iter().map(|w| (w.rule, w.message, w.span.unwrap().first)).collect()
    }

    fn one(source: &str, rule: &str, message: &str, line: usize) {
        let all = found(source);
        assert_eq!(all.len(), 1, "{source}: {all:?}");
        assert_eq!((all[0].0, all[0].1.as_str(), all[0].2), (rule, message, line), "{source}");
    }

    #[test]
    fn each_rule_finds_its_fault() {
        one("FROM known AS Base", "StageNameCasing", "Stage name 'Base' should be lowercase", 1);
        one("FROM known as base", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1);
        one("FROM known\nRUN a \\\n\n b", "NoEmptyContinuation", "Empty continuation line", 4);
        one(
            "FROM known\nRUN a\nrun b",
            "ConsistentInstructionCasing",
            "Command 'run' should match the case of the command majority (uppercase)",
            3,
        );
        one(
            "FROM known AS a\nFROM known AS a",
            "DuplicateStageName",
            "Duplicate stage name \"a\", stage names should be unique",
            2,
        );
        one(
            "FROM known AS context",
            "ReservedStageName",
            "Stage name should not use the same name as reserved stage \"context\"",
            1,
        );
        one(
            "FROM known\nCMD a b",
            "JSONArgsRecommended",
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            2,
        );
        one(
            "FROM known\nMAINTAINER me",
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
            2,
        );
        one(
            "FROM known\nWORKDIR a",
            "WorkdirRelativePath",
            "Relative workdir \"a\" can have unexpected results if the base image changes",
            2,
        );
        one(
            "FROM known\nCMD [\"a\"]\nCMD [\"b\"]",
            "MultipleInstructionsDisallowed",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            2,
        );
        one(
            "FROM known\nENV a b",
            "LegacyKeyValueFormat",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            2,
        );
        one(
            "FROM --platform=$TARGETPLATFORM known",
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            1,
        );
        one(
            "FROM --platform=linux/amd64 known",
            "FromPlatformFlagConstDisallowed",
            "FROM --platform flag should not use constant value \"linux/amd64\"",
            1,
        );
        one(
            "FROM known\nARG DB_PASSWORD",
            "SecretsUsedInArgOrEnv",
            "Do not use ARG or ENV instructions for sensitive data (ARG \"DB_PASSWORD\")",
            2,
        );
        one(
            "ARG V\nFROM known:$V",
            "InvalidDefaultArgInFrom",
            "Default value for ARG known:$V results in empty or invalid base image name",
            2,
        );
        one(
            "FROM known\nCOPY a.log /",
            "CopyIgnoredFile",
            "Attempting to Copy file \"a.log\" that is excluded by .dockerignore",
            2,
        );
        one(
            "FROM known\nEXPOSE 80/TCP",
            "ExposeProtoCasing",
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            2,
        );
        one(
            "FROM known\nEXPOSE 127.0.0.1:80:80",
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            2,
        );
        one("FROM known\nCOPY $NONE /", "UndefinedVar", "Usage of undefined variable '$NONE'", 2);
        one(
            "FROM known\nENV NUMBER=1\nCOPY $NUMBR /",
            "UndefinedVar",
            "Usage of undefined variable '$NUMBR' (did you mean $NUMBER?)",
            3,
        );
    }

    #[test]
    fn what_is_fine_is_not_found() {
        for source in [
            "FROM known AS base\nFROM base\nENV A=1 B=$BASE\nCOPY $A ${PATH} /\nCMD [\"a\"]",
            "ARG V=1\nFROM known:$V\nARG V\nLABEL v=$V",
            "FROM known\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a",
            "FROM unknown\nCOPY $MAYBE /",
            "FROM known\nENV PUBLIC_KEY=1\nWORKDIR /a\nWORKDIR b",
            "# check=skip=all\nFROM known as Base\nENV a b",
            "# check=skip=FromAsCasing,StageNameCasing\nFROM known as Base",
            "FROM --platform=$BUILDPLATFORM known\nRUN echo $NOTHING",
        ] {
            assert_eq!(found(source), [], "{source}");
        }
    }

    #[test]
    fn findings_can_be_errors() {
        let file = parse(b"# check=error=true\nFROM known as a").unwrap();
        let request = Request::default();
        let warnings = check(&file, &request, &[], &|_| None);
        let error = as_errors(&file, &request, &warnings).unwrap();
        assert_eq!(error.message, "lint violation found for rules: FromAsCasing");
        assert_eq!(warnings[0].url, "https://docs.docker.com/go/dockerfile/rule/from-as-casing/");
        assert!(as_errors(&file, &request, &[]).is_none());
    }
}
