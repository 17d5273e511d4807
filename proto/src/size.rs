//! Sizes as people write them. Pure.

/// Bytes of `10GiB`, `500M`, `1.5G`, `0`: k, M, G, T are powers of 1000 and Ki,
/// Mi, Gi, Ti of 1024, with or without a B. A number without a unit is what was
/// forgotten, not so many bytes; only 0 needs none.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size such as 10GiB, 500M or 0");
    let typed = text.trim();
    let digits = typed
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(typed.len());
    let (number, unit) = typed.split_at(digits);
    let nothing = number.bytes().all(|digit| digit == b'0');
    if unit.is_empty() && !number.is_empty() && !nothing {
        return Err(format!(
            "{text:?}: a number wants a unit, as in {number}GiB, {number}M or {number}B"
        ));
    }
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (power, base) = match unit.strip_suffix('i') {
        Some(power) if !power.is_empty() => (power, 1024_u64),
        Some(_) => return Err(wrong()),
        None => (unit, 1000),
    };
    let exponent = match power {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let factor = base.pow(exponent);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let part: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = part * factor as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
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
            ("00", 0),
            ("123B", 123),
            ("123 b", 123),
            ("10GiB", 10 << 30),
            ("10Gi", 10 << 30),
            ("500M", 500_000_000),
            ("1.5 kB", 1500),
            ("2t", 2_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["5", "1.5", " 7 "] {
            assert!(parse(text).unwrap_err().contains("unit"), "{text}");
        }
        for text in ["", "x", "-1", "10Q", "i", "1.2.3", "5 iB", "GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(900), "900 B");
        assert_eq!(show(10 << 30), "10.0 GiB");
    }
}
