//! What the broker signs of its evidence: so many records have this root. A checkpoint (C2SP tlog-checkpoint) in a signed
//! note (C2SP signed-note), so that tools that know neither this program nor its store can keep and compare them.

use super::{
    chain::sha256,
    text::{hex, parse_id, unhex, uuid},
    tree::Hash,
};
use crate::time::UnixSeconds;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::fmt;

/// A note beyond this is none of ours.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// Signatures of one note that are looked at: ours, and those of witnesses.
const SIGNATURES_MAX: usize = 16;
/// How a signature's line begins: an em dash and a blank.
const SIGNATURE: &str = "\u{2014} ";
/// Kind of a plain Ed25519 signature (C2SP signed-note).
const ED25519_KIND: u8 = 1;

/// The state of the evidence at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Whose evidence: the issuer's URL without its scheme, and `/evidence`.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Rises by one each time a store that had lost records was adopted.
    pub epoch: u64,
    /// Identity of the database in this epoch.
    pub store: u128,
    pub at: UnixSeconds,
    /// Position and link of the last of these records.
    pub last: (i64, [u8; 32]),
}

/// The text is no checkpoint of this program's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    #[error("it is no signed note: text, an empty line, and lines that begin with an em dash")]
    Form,
    #[error("its {0} cannot be read")]
    Line(&'static str),
    #[error("it is not signed by `{0}`")]
    Unsigned(String),
}

/// A key that checks signatures: `NAME+ID+KEY`, as C2SP signed-note writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

/// The text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a checkpoint key has the form `claimbound.example.com/evidence+1a2b3c4d+AQ…`, as `GET /evidence/key` answers")]
pub struct KeyError;

/// The origin of an issuer's checkpoints.
pub fn origin(issuer_url: &str) -> String {
    let name = issuer_url.split_once("://").map_or(issuer_url, |(_, name)| name);
    format!("{}/evidence", name.trim_end_matches('/'))
}

impl Checkpoint {
    /// What is signed.
    pub fn text(&self) -> String {
        let (position, link) = self.last;
        format!(
            "{}\n{}\n{}\nepoch {} {}\nat {}\nlast {position} {}\n",
            self.origin,
            self.size,
            BASE64_STANDARD.encode(self.root),
            self.epoch,
            uuid(self.store),
            self.at.0,
            hex(&link),
        )
    }

    /// Reads a note and checks that one of these keys signed it; without keys, no signature is checked. Lines of others
    /// behind ours are left alone.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        let (text, signatures) = Some(note)
            .filter(|note| note.len() <= NOTE_BYTES_MAX)
            .and_then(|note| note.split_once("\n\n"))
            .ok_or(NoteError::Form)?;
        // The text's own last line ends with the first of the two.
        let text = &note[..=text.len()];
        if !signatures.ends_with('\n') || signatures.lines().any(|line| !line.starts_with(SIGNATURE)) {
            return Err(NoteError::Form);
        }
        let signed = |key: &VerifierKey| {
            let lines = signatures.lines().take(SIGNATURES_MAX).filter_map(|line| line.strip_prefix(SIGNATURE));
            lines.filter_map(|line| line.split_once(' ')).any(|(name, bytes)| key.verifies(text, name, bytes))
        };
        if let Some(first) = keys.first()
            && !keys.iter().any(signed)
        {
            return Err(NoteError::Unsigned(first.to_string()));
        }
        Self::read(text)
    }

    fn read(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let mut line = |what| lines.next().filter(|line| !line.is_empty()).ok_or(NoteError::Line(what));
        let origin = line("origin")?.to_owned();
        let size = number(line("size")?).filter(|size| *size > 0).ok_or(NoteError::Line("size"))?;
        let root = BASE64_STANDARD.decode(line("root")?).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(NoteError::Line("root"))?;
        let (epoch, store) = pair(line("epoch")?, "epoch ").ok_or(NoteError::Line("epoch"))?;
        let epoch = number(epoch).filter(|epoch| *epoch > 0).ok_or(NoteError::Line("epoch"))?;
        let store = parse_id(store).map_err(|_| NoteError::Line("epoch"))?;
        let at = line("time")?.strip_prefix("at ").and_then(number).and_then(|at| i64::try_from(at).ok());
        let at = UnixSeconds(at.ok_or(NoteError::Line("time"))?);
        let (position, link) = pair(line("last record")?, "last ").ok_or(NoteError::Line("last record"))?;
        let position = number(position).and_then(|position| i64::try_from(position).ok());
        let last = position.zip(unhex(link)).ok_or(NoteError::Line("last record"))?;
        let read = Self { origin, size, root, epoch, store, at, last };
        // One text for one checkpoint: no other spelling, no more lines.
        if read.text() == text { Ok(read) } else { Err(NoteError::Line("text")) }
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn pair<'l>(line: &'l str, name: &str) -> Option<(&'l str, &'l str)> {
    line.strip_prefix(name)?.split_once(' ')
}

impl VerifierKey {
    /// The Ed25519 key (32 bytes) of this name.
    pub fn new(name: String, public: [u8; 32]) -> Self {
        let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[ED25519_KIND], &public]);
        Self { name, id: [a, b, c, d], public }
    }

    /// Reads `NAME+ID+KEY`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.trim().split_once('+').ok_or(KeyError)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| KeyError)?;
        let [ED25519_KIND, public @ ..] = &key[..] else { return Err(KeyError) };
        let public = public.try_into().map_err(|_| KeyError)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(KeyError);
        }
        let read = Self::new(name.to_owned(), public);
        if hex(&read.id) == id { Ok(read) } else { Err(KeyError) }
    }

    /// Whose key it is: the origin of what it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The note of a text (which ends with a line break) and this key's signature of it.
    pub fn note(&self, text: &str, signature: &[u8]) -> String {
        let bytes = BASE64_STANDARD.encode([&self.id[..], signature].concat());
        format!("{text}\n{SIGNATURE}{} {bytes}\n", self.name)
    }

    fn verifies(&self, text: &str, name: &str, bytes: &str) -> bool {
        let Ok(bytes) = BASE64_STANDARD.decode(bytes) else { return false };
        let Some((id, signature)) = bytes.split_first_chunk::<4>() else { return false };
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        name == self.name && *id == self.id && key.verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[ED25519_KIND][..], &self.public].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    /// The example of C2SP signed-note: its key, its text, its signature.
    #[test]
    fn a_known_note_verifies() {
        let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert!(key.verifies(text, "PeterNeumann", signature));
        assert!(!key.verifies(&text.replace("your", "my"), "PeterNeumann", signature));
        assert!(!key.verifies(text, "Peter", signature));
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: origin("https://cb.example"),
            size: 7,
            root: [3; 32],
            epoch: 1,
            store: 42,
            at: UnixSeconds(1_800_000_000),
            last: (9, [5; 32]),
        }
    }

    fn pair(seed: u8) -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, VerifierKey::new("cb.example/evidence".to_owned(), public))
    }

    #[test]
    fn a_note_comes_back_as_it_was_signed() {
        let (pair, key) = pair(1);
        let text = checkpoint().text();
        assert_eq!(
            text,
            "cb.example/evidence\n7\nAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n\
             epoch 1 00000000-0000-0000-0000-00000000002a\nat 1800000000\nlast 9 "
                .to_owned()
                + &"05".repeat(32)
                + "\n"
        );
        let note = key.note(&text, pair.sign(text.as_bytes()).as_ref());
        let keys = [VerifierKey::parse(&format!("{key}\n")).unwrap()];
        assert_eq!(Checkpoint::open(&note, &keys), Ok(checkpoint()));
        let witnessed = format!("{note}{SIGNATURE}witness.example AAAA\n");
        assert_eq!(Checkpoint::open(&witnessed, &keys), Ok(checkpoint()), "others may sign it, too");
        let (_, other) = self::pair(2);
        assert_eq!(Checkpoint::open(&note, std::slice::from_ref(&other)), Err(NoteError::Unsigned(other.to_string())));
        assert_eq!(Checkpoint::open(&note, &[other, key.clone()]), Ok(checkpoint()), "any of them");
        assert_eq!(Checkpoint::open(&note, &[]), Ok(checkpoint()), "nobody asked who signed");
        for (from, to) in
            [("\n7\n", "\n8\n"), ("AwMD", "BwMD"), ("epoch 1", "epoch 2"), ("at 18", "at 19"), ("last 9", "last 8")]
        {
            let forged = note.replacen(from, to, 1);
            assert_ne!(forged, note);
            assert!(matches!(Checkpoint::open(&forged, &keys), Err(NoteError::Unsigned(_))), "{from}");
        }
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let (pair, key) = pair(1);
        let signed = |text: &str| key.note(text, pair.sign(text.as_bytes()).as_ref());
        let good = checkpoint().text();
        for text in [
            good.replace("\n7\n", "\n07\n"),
            good.replace("\n7\n", "\n0\n"),
            good.replace("\n7\n", "\n+7\n"),
            good.replace("epoch 1 ", "epoch 0 "),
            good.replace("epoch", "Epoch"),
            format!("{good}more\n"),
            good.replace("cb.example/evidence\n", ""),
        ] {
            assert!(matches!(Checkpoint::open(&signed(&text), &[]), Err(NoteError::Line(_))), "{text}");
        }
        let note = signed(&good);
        for bad in ["", "\n\n", &good, note.trim_end(), &note.replace(SIGNATURE, "- "), &"x".repeat(NOTE_BYTES_MAX + 1)]
        {
            assert_eq!(Checkpoint::open(bad, &[]), Err(NoteError::Form), "{bad}");
        }
        let bad_id = key.to_string().replace("evidence+", "evidence+0");
        for text in ["", "a+b", "a+00000000+AQ==", &bad_id, "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
        {
            assert_eq!(VerifierKey::parse(text), Err(KeyError), "{text}");
        }
    }
}
