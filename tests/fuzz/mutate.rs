//! Inputs made of other inputs: bytes flipped, pieces cut, doubled and moved, words of the format put in.

use fleetform::sim::Random;

/// The most bytes of an input: what is wrong with a longer one is wrong with a shorter one too, and is found sooner.
const BYTES_MAX: usize = 4 * 1024;
/// The most changes of one input.
const CHANGES_MAX: u64 = 8;

/// Returns an input that was made of one of the corpus. `words` are what the format means something by.
pub fn mutated(random: &mut Random, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    input.truncate(BYTES_MAX);
    for _ in 0..random.between(1, CHANGES_MAX) {
        change(random, &mut input, corpus, words);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    /// What numbers, lengths and text are wrong at.
    const EDGES: [&str; 20] = [
        "0",
        "-1",
        "9223372036854775808",
        "-9223372036854775809",
        "1e999",
        "0.1e-400",
        "NaN",
        "\0",
        "\u{feff}",
        "\u{202e}",
        "\u{1f600}",
        "e\u{301}",
        "\u{2028}",
        "\r",
        "\t",
        "\x1b[31m",
        "=1+1",
        "\\u0000",
        "'",
        "\"",
    ];
    match random.between(0, 9) {
        0 => {
            if let Some(byte) = at(random, input) {
                input[byte] ^= 1 << random.between(0, 7);
            }
        }
        1 => {
            let byte = random.between(0, 255) as u8;
            insert(random, input, &[byte]);
        }
        2 | 3 => {
            let word = random.pick(words).as_bytes().to_vec();
            insert(random, input, &word);
        }
        4 => {
            let edge = random.pick(&EDGES).as_bytes().to_vec();
            insert(random, input, &edge);
        }
        5 => {
            let (from, to) = range(random, input);
            input.drain(from..to);
        }
        6 => {
            let (from, to) = range(random, input);
            let piece = input[from..to].to_vec();
            for _ in 0..random.between(1, 3) {
                insert(random, input, &piece);
            }
        }
        7 => {
            let other = random.pick(corpus).clone();
            let (from, to) = range(random, &other);
            insert(random, input, &other[from..to]);
        }
        8 => {
            let (from, to) = range(random, input);
            let word = random.pick(words).as_bytes().to_vec();
            input.splice(from..to, word);
        }
        _ => {
            // Deep nesting.
            let piece = random.pick(&["(", "[", "{", "NOT ", "- ", "{\"a\":", "[[", "&a [*a,"]).as_bytes().to_vec();
            let piece = piece.repeat(random.between(1, 200) as usize);
            insert(random, input, &piece);
        }
    }
}

fn at(random: &mut Random, input: &[u8]) -> Option<usize> {
    let last = (input.len() as u64).checked_sub(1)?;
    Some(random.between(0, last) as usize)
}

fn insert(random: &mut Random, input: &mut Vec<u8>, piece: &[u8]) {
    let place = random.between(0, input.len() as u64) as usize;
    input.splice(place..place, piece.iter().copied());
}

/// Returns a piece, mostly a short one.
fn range(random: &mut Random, input: &[u8]) -> (usize, usize) {
    let from = random.between(0, input.len() as u64);
    let length = if random.chance(80) { random.between(0, 16) } else { random.between(0, input.len() as u64) };
    (from as usize, (from + length).min(input.len() as u64) as usize)
}
