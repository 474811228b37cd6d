//! Rust source text, read without a parser: enough to find code, paths, functions and modules.

use std::ops::Range;

/// The text with every comment, string and character literal blanked out. Offsets and lines stay what they were.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = comment(bytes, at).or_else(|| string(bytes, at)).or_else(|| character(bytes, at));
        let Some(end) = end else {
            // A whole identifier at once, so that the `r` of `for` does not begin a raw string.
            at += word(bytes, at).max(1);
            continue;
        };
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).expect("only whole literals and comments were blanked")
}

fn comment(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut end) = (0, at);
    while end < bytes.len() {
        match &bytes[end..] {
            [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
            [b'*', b'/', ..] if depth == 1 => return Some(end + 2),
            [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
    }
    Some(bytes.len())
}

/// Plain, byte, C and raw strings.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let prefix = word(bytes, at);
    let raw = match &bytes[at..at + prefix] {
        b"" | b"b" | b"c" => false,
        b"r" | b"br" | b"cr" => true,
        _ => return None,
    };
    let hashes = if raw { bytes[at + prefix..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
    let open = at + prefix + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut end = open + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if !raw => end += 2,
            b'"' if bytes[end + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes => {
                return Some(end + 1 + hashes);
            }
            _ => end += 1,
        }
    }
    Some(bytes.len())
}

/// A character literal, not a lifetime.
fn character(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at] != b'\'' {
        return None;
    }
    let first = *bytes.get(at + 1)?;
    if first == b'\\' {
        return bytes[at + 3..].iter().position(|byte| *byte == b'\'').map(|more| at + 3 + more + 1);
    }
    let width = match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

/// Length of the identifier that begins here.
fn word(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// The line of an offset, from 1.
pub(crate) fn line(code: &str, at: usize) -> usize {
    1 + code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
}

fn skip_blanks(code: &str, at: usize) -> usize {
    at + code[at..].len() - code[at..].trim_start().len()
}

/// A path as it is written, `use` groups taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Where it begins.
    pub(crate) at: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// Its identifiers; a trailing `*` counts as one.
    pub(crate) segments: Vec<String>,
}

impl Path {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && prefix.iter().zip(&self.segments).all(|(want, have)| want == have)
    }
}

/// Every path of the code; a lone identifier is one too.
pub(crate) fn paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        at = if word(code.as_bytes(), at) > 0 { path(code, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads one path, or one branch of a `use` group, and returns where it ends.
fn path(code: &str, start: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    loop {
        let length = word(code.as_bytes(), at);
        if length == 0 {
            if code[at..].starts_with('*') {
                segments.push("*".into());
                at += 1;
            } else if code[at..].starts_with('{') {
                return group(code, at, &segments, found);
            }
            break;
        }
        segments.push(code[at..at + length].into());
        at += length;
        let next = skip_blanks(code, at);
        if !code[next..].starts_with("::") {
            break;
        }
        at = skip_blanks(code, next + 2);
    }
    found.push(Path { at: start, end: at, segments });
    at
}

/// Reads `{a, b::c}` behind a path.
fn group(code: &str, open: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut at = open + 1;
    while at < code.len() {
        at = skip_blanks(code, at);
        if code[at..].starts_with('}') {
            return at + 1;
        }
        let begins_path = word(code.as_bytes(), at) > 0 || code[at..].starts_with(['*', '{']);
        at = if begins_path {
            skip_new_name(code, path(code, at, prefix, found))
        } else {
            at + code[at..].chars().next().map_or(1, char::len_utf8)
        };
    }
    at
}

/// Behind `as name`, if that is what follows a branch of a group.
fn skip_new_name(code: &str, at: usize) -> usize {
    let next = skip_blanks(code, at);
    let renamed = &code[next..next + word(code.as_bytes(), next)] == "as";
    name_after(code, "as", next).filter(|_| renamed).map_or(at, |(_, end)| end)
}

/// Offsets of an identifier.
pub(crate) fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let whole = move |at: usize| {
        let before = code.as_bytes()[..at].last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        !before && word(code.as_bytes(), at) == name.len()
    };
    code.match_indices(name).map(|(at, _)| at).filter(move |at| whole(*at))
}

/// The identifier behind a keyword, and where it ends.
fn name_after(code: &str, keyword: &str, at: usize) -> Option<(String, usize)> {
    let start = skip_blanks(code, at + keyword.len());
    let length = word(code.as_bytes(), start);
    (length > 0).then(|| (code[start..start + length].into(), start + length))
}

/// A named block: a function or an inline module, from its keyword to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) range: Range<usize>,
}

/// Functions with a body.
pub(crate) fn functions(code: &str) -> Vec<Block> {
    blocks(code, "fn")
}

/// Inline modules.
pub(crate) fn inline_modules(code: &str) -> Vec<Block> {
    blocks(code, "mod")
}

fn blocks(code: &str, keyword: &str) -> Vec<Block> {
    words(code, keyword)
        .filter_map(|at| {
            let (name, end) = name_after(code, keyword, at)?;
            let open = body(code, end)?;
            Some(Block { name, range: at..close(code, open) })
        })
        .collect()
}

/// The brace that opens the body of what is declared here; none if it ends with a semicolon.
fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

/// Just behind the brace that closes the one at `open`.
fn close(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Modules that are declared to be in other files: their names, and the offsets of `mod`.
pub(crate) fn declared_modules(code: &str) -> Vec<(String, usize)> {
    let outside = |at: &usize| body(code, *at).is_none();
    words(code, "mod").filter(outside).filter_map(|at| Some((name_after(code, "mod", at)?.0, at))).collect()
}

/// Modules that are compiled for tests only.
pub(crate) fn test_modules(code: &str) -> Vec<Range<usize>> {
    let for_tests = |block: &Block| {
        let before = &code[..block.range.start];
        let attributes = &before[before.rfind(['}', ';']).unwrap_or(0)..];
        attributes.contains("#[cfg(test)]")
    };
    inline_modules(code).into_iter().filter(for_tests).map(|block| block.range).collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a // b\n/* c /* d */ e */ f(\"g\\\"h\", 'i', '\\'', '\"') 'j: r#\"k\"l\"# b\"m\" for \"n\" é \"ö\"";
    assert_eq!(code(text).len(), text.len());
    let words: Vec<String> = paths(&code(text)).into_iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(words, ["a", "f", "j", "for"]);
}

#[test]
fn groups_are_taken_apart() {
    let found = paths("use std::{fs, time::{Duration, Instant as I}, io::*}; x.y::<T>()");
    let texts: Vec<String> = found.into_iter().map(|path| path.segments.join("::")).collect();
    let expected = ["use", "std::fs", "std::time::Duration", "std::time::Instant", "std::io::*", "x", "y", "T"];
    assert_eq!(texts, expected);
}

#[test]
fn functions_end_at_their_closing_brace() {
    let text = "fn a(x: [u8; 2]) -> X { if y { z } }\ntrait T { fn b(&self); fn c(&self) {\n} }";
    let found: Vec<(String, usize)> =
        functions(text).into_iter().map(|block| (block.name, line(text, block.range.end))).collect();
    assert_eq!(found, [("a".to_string(), 1), ("c".to_string(), 3)]);
}
