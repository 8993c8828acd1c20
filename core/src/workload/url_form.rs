//! Issuer URLs by form: `https://{host}/_services/token`. A placeholder is never empty and never crosses a `/`, but for
//! `{path}`, which is one segment or several.

/// Whether `url` is of this form, byte for byte outside its placeholders.
pub(super) fn fits(form: &str, url: &str) -> bool {
    let Some((before, (name, after))) =
        form.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return form == url;
    };
    let Some(rest) = url.strip_prefix(before) else { return false };
    // A placeholder ends where the next literal may begin; trying every end is exact, and URLs are short.
    rest.char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| name == "path" || !rest[..*end].contains('/'))
        .any(|end| is_value(name, &rest[..end]) && fits(after, &rest[end..]))
}

/// What a placeholder may stand for: a host in its one canonical spelling, or a plain word.
fn is_value(name: &str, text: &str) -> bool {
    if name == "host" {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        return host.contains('.') && host.split('.').all(is_label) && port.is_none_or(is_port);
    }
    if name == "path" {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        let whole = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(letter);
        return text.split('/').all(whole);
    }
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// The default port is left out of a canonical URL.
fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port != "443" && port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_fits_its_urls_and_nothing_that_only_looks_like_them() {
        let slug = "https://token.actions.githubusercontent.com/{slug}";
        let ghe = "https://token.actions.{subdomain}.ghe.com";
        let ghe_slug = "https://token.actions.{subdomain}.ghe.com/{slug}";
        let ghes = "https://{host}/_services/token";
        let host = "https://{host}";
        for (form, url, expected) in [
            (slug, "https://token.actions.githubusercontent.com/acme", true),
            (slug, "https://token.actions.githubusercontent.com/", false),
            (slug, "https://token.actions.githubusercontent.com", false),
            (slug, "https://token.actions.githubusercontent.com/acme/x", false),
            (slug, "https://token.actions.githubusercontent.com/ac%2fme", false),
            (slug, "https://token.actions.githubusercontent.com.evil.test/acme", false),
            (ghe, "https://token.actions.octo.ghe.com", true),
            (ghe, "https://token.actions.octo.evil.ghe.com", false),
            (ghe, "https://token.actions.octo.ghe.com.evil.test", false),
            (ghe_slug, "https://token.actions.octo.ghe.com/octo", true),
            (ghes, "https://ghes.acme.example/_services/token", true),
            (ghes, "https://ghes.acme.example:8443/_services/token", true),
            (ghes, "https://ghes.acme.example/x/_services/token", false),
            (ghes, "https://user@ghes.acme.example/_services/token", false),
            (host, "https://gitlab.acme.example", true),
            (host, "https://gitlab.com.", false),
            (host, "https://gitlab.com:443", false),
            (host, "https://GitLab.com", false),
            (host, "https://gitlab.com/", false),
            (host, "http://gitlab.acme.example", false),
            (host, "https://gitläb.example", false),
            (host, "https://localhost", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/job/folder/oidc", true),
            ("https://{host}/{path}", "https://jenkins.acme.example/", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/a/", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/a//b", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/a/../b", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/a%2Fb", false),
            ("https://{host}/{path}", "https://jenkins.acme.example/a?b", false),
        ] {
            assert_eq!(fits(form, url), expected, "{form} {url}");
        }
    }
}
