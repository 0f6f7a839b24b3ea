//! Cuts a template into tokens, by the rules of Go's `text/template/parse/lex.go`: text, delimiters with their white
//! space trimming, comments, and what stands between `{{` and `}}`. What the tokens mean together is the parser's
//! business.

use super::Error;

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// Byte offset in the template.
    pub(crate) at: usize,
    /// Whether white space stands before it inside its action.
    pub(crate) spaced: bool,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Text between actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.`
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, with the dollar sign.
    Variable(String),
    /// A keyword, a function's name, `true`, `false` or `nil`.
    Word(String),
    /// An integer and its source text; character constants too.
    Int(i64, String),
    /// A floating-point number and its source text.
    Float(f64, String),
    /// A string's value and its source text.
    Str(String, String),
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// The end of the template.
    End,
}

impl Kind {
    /// How error messages call it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Kind::Text(text) | Kind::Word(text) | Kind::Variable(text) => quote(text),
            Kind::Field(name) => quote(&format!(".{name}")),
            Kind::Int(_, source) | Kind::Float(_, source) | Kind::Str(_, source) => quote(source),
            Kind::Open => quote("{{"),
            Kind::Close => quote("}}"),
            Kind::Dot => quote("."),
            Kind::Declare => quote(":="),
            Kind::Assign => quote("="),
            Kind::Pipe => quote("|"),
            Kind::Comma => quote(","),
            Kind::LeftParen => quote("("),
            Kind::RightParen => quote(")"),
            Kind::End => "EOF".to_owned(),
        }
    }
}

fn quote(text: &str) -> String {
    let short: String = text.chars().take(10).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}

const TRIMMED: [char; 4] = [' ', '\t', '\r', '\n'];

/// All tokens of a template; the last is [`Kind::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new(), depth: 0 };
    while lexer.at < source.len() {
        lexer.text()?;
    }
    lexer.push(source.len(), false, Kind::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, at: usize, spaced: bool, kind: Kind) {
        self.tokens.push(Token { at, spaced, kind });
    }

    fn error<T>(&self, at: usize, message: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::parse(self.source, at, message))
    }

    /// Text up to the next action, and that action.
    fn text(&mut self) -> Result<(), Error> {
        let start = self.at;
        let Some(length) = self.rest().find("{{") else {
            let text = self.rest().to_owned();
            self.push(start, false, Kind::Text(text));
            self.at = self.source.len();
            return Ok(());
        };
        let trim = trims_left(&self.rest()[length + 2..]);
        let mut text = &self.rest()[..length];
        if trim {
            text = text.trim_end_matches(TRIMMED);
        }
        if !text.is_empty() {
            self.push(start, false, Kind::Text(text.to_owned()));
        }
        let open = start + length;
        self.at = open + 2 + if trim { 2 } else { 0 };
        if self.rest().starts_with("/*") {
            return self.comment();
        }
        self.push(open, false, Kind::Open);
        self.action(open)
    }

    /// `/* … */` with the delimiter that must follow at once.
    fn comment(&mut self) -> Result<(), Error> {
        let start = self.at;
        let Some(end) = self.rest().find("*/") else { return self.error(start, "unclosed comment") };
        self.at += end + 2;
        if self.close() { Ok(()) } else { self.error(start, "comment ends before closing delimiter") }
    }

    /// Takes `}}` or ` -}}` if it stands here, with the white space that the latter trims.
    fn close(&mut self) -> bool {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix(TRIMMED).and_then(|rest| rest.strip_prefix("-}}")) {
            self.at = self.source.len() - after.trim_start_matches(TRIMMED).len();
            return true;
        }
        let closes = rest.starts_with("}}");
        self.at += if closes { 2 } else { 0 };
        closes
    }

    /// The tokens between the delimiters.
    fn action(&mut self, open: usize) -> Result<(), Error> {
        self.depth = 0;
        loop {
            let after = self.rest().trim_start_matches(TRIMMED);
            let spaced = after.len() < self.rest().len();
            // The last white space stays for ` -}}`.
            self.at = self.source.len() - after.len() - usize::from(spaced && after.starts_with("-}}"));
            let at = self.at;
            if self.close() {
                if self.depth > 0 {
                    return self.error(at, "unclosed left paren");
                }
                self.push(at, spaced, Kind::Close);
                return Ok(());
            }
            if after.is_empty() {
                return self.error(open, "unclosed action");
            }
            self.token(spaced)?;
        }
    }

    fn token(&mut self, spaced: bool) -> Result<(), Error> {
        let at = self.at;
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or_default();
        let follows = rest[first.len_utf8()..].chars().next();
        let (length, kind) = match first {
            ':' if follows == Some('=') => (2, Kind::Declare),
            ':' => return self.error(at, "expected :="),
            '=' => (1, Kind::Assign),
            '|' => (1, Kind::Pipe),
            ',' => (1, Kind::Comma),
            '(' => {
                self.depth += 1;
                (1, Kind::LeftParen)
            }
            ')' => {
                let Some(depth) = self.depth.checked_sub(1) else { return self.error(at, "unexpected right paren") };
                self.depth = depth;
                (1, Kind::RightParen)
            }
            '"' => self.quoted(rest)?,
            '`' => match rest[1..].find('`') {
                Some(end) => (end + 2, Kind::Str(rest[1..=end].to_owned(), rest[..end + 2].to_owned())),
                None => return self.error(at, "unterminated raw quoted string"),
            },
            '\'' => self.character(rest)?,
            '.' if !follows.is_some_and(|next| next.is_ascii_digit()) => self.name(rest, 1)?,
            '$' => self.name(rest, 1)?,
            '+' | '-' | '.' | '0'..='9' => self.number(rest)?,
            first if is_name(first) => self.name(rest, 0)?,
            other => return self.error(at, format!("unrecognized character in action: {}", unicode(other))),
        };
        self.at += length;
        self.push(at, spaced, kind);
        Ok(())
    }

    /// `.Name`, `$name` or a word, and the check that it ends where a word may end.
    fn name(&self, rest: &str, sigil: usize) -> Result<(usize, Kind), Error> {
        let length = sigil + rest[sigil..].find(|c| !is_name(c)).unwrap_or(rest.len() - sigil);
        let terminator = rest[length..].chars().next();
        if let Some(bad) = terminator.filter(|&c| !ends_name(c, &rest[length..])) {
            return self.error(self.at, format!("bad character {}", unicode(bad)));
        }
        let word = rest[..length].to_owned();
        let kind = match &rest[..sigil] {
            "." if length == 1 => Kind::Dot,
            "." => Kind::Field(rest[1..length].to_owned()),
            "$" => Kind::Variable(word),
            _ => Kind::Word(word),
        };
        Ok((length, kind))
    }

    fn quoted(&self, rest: &str) -> Result<(usize, Kind), Error> {
        let mut escaped = false;
        for (index, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let source = &rest[..=index];
                    return match unquote(&rest[1..index]) {
                        Some(text) => Ok((index + 1, Kind::Str(text, source.to_owned()))),
                        None => self.error(self.at, "invalid syntax"),
                    };
                }
                _ => {}
            }
        }
        self.error(self.at, "unterminated quoted string")
    }

    fn character(&self, rest: &str) -> Result<(usize, Kind), Error> {
        let inner = &rest[1..];
        let skip = if inner.starts_with('\\') { 2 } else { 1 };
        let from = inner.char_indices().nth(skip).map_or(inner.len(), |(index, _)| index);
        let Some(end) = inner[from..].find('\'') else { return self.error(self.at, "unterminated character constant") };
        let source = &rest[..from + end + 2];
        let text = unquote(&inner[..from + end]).unwrap_or_default();
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok((source.len(), Kind::Int(i64::from(u32::from(c)), source.to_owned()))),
            _ => self.error(self.at, format!("malformed character constant: {source}")),
        }
    }

    fn number(&self, rest: &str) -> Result<(usize, Kind), Error> {
        let mut length = usize::from(rest.starts_with(['+', '-']));
        let hex = rest[length..].starts_with("0x") || rest[length..].starts_with("0X");
        for c in rest[length..].chars() {
            let exponent_sign = matches!(c, '+' | '-') && !hex && rest[..length].ends_with(['e', 'E']);
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign) {
                break;
            }
            length += 1;
        }
        let source = &rest[..length];
        if let Some(number) = parse_int(source) {
            return Ok((length, Kind::Int(number, source.to_owned())));
        }
        match source.replace('_', "").parse::<f64>() {
            Ok(number) if number.is_finite() && !source.contains(['n', 'N']) => {
                Ok((length, Kind::Float(number, source.to_owned())))
            }
            _ => self.error(self.at, format!("bad number syntax: {source:?}")),
        }
    }
}

fn trims_left(after: &str) -> bool {
    after.strip_prefix('-').is_some_and(|rest| rest.starts_with(TRIMMED))
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn ends_name(c: char, rest: &str) -> bool {
    TRIMMED.contains(&c) || matches!(c, '.' | ',' | '|' | ':' | '(' | ')') || rest.starts_with("}}")
}

fn unicode(c: char) -> String {
    format!("U+{:04X} {c:?}", u32::from(c))
}

/// Go's integer literals: decimal, `0x`, `0o` or leading zero, `0b`, with `_` between digits.
fn parse_int(source: &str) -> Option<i64> {
    let clean = source.replace('_', "").to_ascii_lowercase();
    let (negative, digits) = match clean.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, clean.strip_prefix('+').unwrap_or(&clean)),
    };
    let (radix, digits) = match digits {
        d if d.starts_with("0x") => (16, &d[2..]),
        d if d.starts_with("0o") => (8, &d[2..]),
        d if d.starts_with("0b") => (2, &d[2..]),
        d if d.len() > 1 && d.starts_with('0') => (8, &d[1..]),
        d => (10, d),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::try_from(u64::from_str_radix(digits, radix).ok()?).ok()?;
    Some(if negative { -number } else { number })
}

/// Undoes Go's string escapes; nothing if there is one that Go does not know.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let digits = match chars.next()? {
            'a' => Err(7),
            'b' => Err(8),
            'f' => Err(12),
            'n' => Err(b'\n'),
            'r' => Err(b'\r'),
            't' => Err(b'\t'),
            'v' => Err(11),
            '\\' => Err(b'\\'),
            '\'' => Err(b'\''),
            '"' => Err(b'"'),
            'x' => Ok((2, 16, String::new())),
            'u' => Ok((4, 16, String::new())),
            'U' => Ok((8, 16, String::new())),
            digit @ '0'..='7' => Ok((2, 8, digit.to_string())),
            _ => return None,
        };
        match digits {
            Err(byte) => bytes.push(byte),
            Ok((count, radix, mut number)) => {
                number.extend(chars.by_ref().take(count));
                let wide = count > 2;
                let code = u32::from_str_radix(&number, radix).ok()?;
                match wide {
                    true => bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
                    false => bytes.push(u8::try_from(code).ok()?),
                }
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
