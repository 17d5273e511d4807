//! Sizes as people write them. Pure.

/// `10GiB`, `500M`, `1.5G`, `0`, plain bytes: k, M, G, T are powers of 1,000, Ki,
/// Mi, Gi, Ti of 1,024, and a B may follow.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: a size like 10GiB or 500M is expected");
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (base, letter) = match unit.strip_suffix('i') {
        Some(letter) => (1024f64, letter),
        None => (1000f64, unit),
    };
    let power = match letter {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    Ok((number * base.powi(power)) as u64)
}

/// For people, in powers of 1,024.
pub fn show(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("10GiB", 10 << 30),
            ("10Gi", 10 << 30),
            ("500M", 500_000_000),
            ("1.5 kB", 1500),
            ("2t", 2_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "10Q", "i", "1.2.3", "5 iB", "GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(900), "900 B");
        assert_eq!(show(10 << 30), "10.0 GiB");
    }
}
