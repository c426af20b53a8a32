//! The matrix a sender protects its stream by, within the limits of the standard.

use serde::{Deserialize, Serialize};

/// Why no such matrix may be sent. Each text names the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// Columns, without the row stream.
    #[error("{0} columns: without the row stream ST 2022-1 allows 1 to 20")]
    Columns(u64),
    /// Columns, with the row stream.
    #[error("{0} columns: with the row stream ST 2022-1 allows 4 to 20")]
    ColumnsWithRows(u64),
    /// Rows.
    #[error("{0} rows: ST 2022-1 allows 4 to 20")]
    Rows(u64),
    /// Both are allowed, but not together.
    #[error("{columns} columns x {rows} rows are {} packets: ST 2022-1 allows at most 100", columns * rows)]
    Packets {
        /// Columns asked for.
        columns: u64,
        /// Rows asked for.
        rows: u64,
    },
}

/// L columns and D rows, with or without FEC packets for the rows. Within the limits by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    columns: u8,
    rows: u8,
    row_stream: bool,
}

impl Matrix {
    /// The greatest number of packets in a matrix.
    pub const MAX_PACKETS: u64 = 100;

    /// A matrix of L = `columns` and D = `rows`.
    ///
    /// # Errors
    /// It is outside the limits: columns 1 to 20 (4 to 20 with the row stream), rows 4 to 20, at most 100 packets.
    pub fn new(columns: u64, rows: u64, row_stream: bool) -> Result<Self, MatrixError> {
        let (least, error) =
            if row_stream { (4, MatrixError::ColumnsWithRows(columns)) } else { (1, MatrixError::Columns(columns)) };
        let l = u8::try_from(columns).ok().filter(|l| (least..=20).contains(l)).ok_or(error)?;
        let d = u8::try_from(rows).ok().filter(|d| (4..=20).contains(d)).ok_or(MatrixError::Rows(rows))?;
        if columns * rows > Self::MAX_PACKETS {
            return Err(MatrixError::Packets { columns, rows });
        }
        Ok(Self { columns: l, rows: d, row_stream })
    }

    /// L: the packets of a row.
    pub const fn columns(self) -> u8 {
        self.columns
    }

    /// D: the packets of a column.
    pub const fn rows(self) -> u8 {
        self.rows
    }

    /// Whether each row has a FEC packet too.
    pub const fn row_stream(self) -> bool {
        self.row_stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_matrices_of_the_standard_can_be_made() {
        for (l, d) in (0..=120).flat_map(|l| (0..=120).map(move |d| (l, d))) {
            let columns_only = (1..=20).contains(&l) && (4..=20).contains(&d) && l * d <= 100;
            assert_eq!(Matrix::new(l, d, false).is_ok(), columns_only, "{l} x {d}");
            assert_eq!(Matrix::new(l, d, true).is_ok(), columns_only && l >= 4, "{l} x {d} and rows");
        }
        let matrix = Matrix::new(20, 5, true).unwrap();
        assert_eq!((matrix.columns(), matrix.rows(), matrix.row_stream()), (20, 5, true));
    }

    #[test]
    fn a_refusal_names_the_limit() {
        let refusal = |l, d, rows| Matrix::new(l, d, rows).unwrap_err().to_string();
        assert_eq!(refusal(3, 5, true), "3 columns: with the row stream ST 2022-1 allows 4 to 20");
        assert_eq!(refusal(0, 5, false), "0 columns: without the row stream ST 2022-1 allows 1 to 20");
        assert_eq!(refusal(5, 21, false), "21 rows: ST 2022-1 allows 4 to 20");
        assert_eq!(refusal(11, 10, true), "11 columns x 10 rows are 110 packets: ST 2022-1 allows at most 100");
        assert_eq!(refusal(u64::MAX, u64::MAX, false), MatrixError::Columns(u64::MAX).to_string());
    }
}
