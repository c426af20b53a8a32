//! Percentiles without keeping every value.

/// Values in classes that are 1/64 of their value wide.
#[derive(Debug)]
pub struct Histogram {
    classes: Vec<u64>,
    count: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { classes: vec![0; 64 * 64], count: 0, largest: 0 }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.classes[class(value)] += 1;
        self.count += 1;
        self.largest = self.largest.max(value);
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The largest value.
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that this part (0 to 1) of all values do not exceed, but for the width of a class; 0 if there are none.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.classes.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(self.largest, |class| lowest(class).min(self.largest))
    }
}

/// Up to 63 a class holds one value; then 64 classes each time values double.
fn class(value: u64) -> usize {
    if value < 64 {
        return value as usize;
    }
    let doublings = 63 - value.leading_zeros() as usize;
    (doublings - 5) * 64 + ((value >> (doublings - 6)) as usize & 63)
}

/// The lowest value of a class.
fn lowest(class: usize) -> u64 {
    if class < 64 { class as u64 } else { (64 + (class % 64) as u64) << (class / 64 - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_64th() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|value| histogram.add(value));
        for (part, exact) in [(0.5, 50_000), (0.99, 99_000), (0.999, 99_900)] {
            let found = histogram.quantile(part);
            assert!(found <= exact && exact - found <= exact / 64, "{part}: {found}");
        }
        assert_eq!((histogram.count(), histogram.largest()), (100_000, 100_000));
    }

    #[test]
    fn classes_follow_each_other_and_hold_every_value() {
        for value in (0..100_000).chain([u64::MAX / 2, u64::MAX]) {
            assert!(lowest(class(value)) <= value && class(lowest(class(value))) == class(value), "{value}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
