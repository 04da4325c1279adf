#include "format/tensor_source.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

TEST_CASE("FP8 E4M3: the values of the definition") {
  CHECK(f8_e4m3_to_f32(0x00) == 0.0F);
  CHECK(std::signbit(f8_e4m3_to_f32(0x80)));
  CHECK(f8_e4m3_to_f32(0x01) == 0x1p-9F);  // least subnormal
  CHECK(f8_e4m3_to_f32(0x07) == 0x1.Cp-7F);
  CHECK(f8_e4m3_to_f32(0x08) == 0x1p-6F);  // least normal
  CHECK(f8_e4m3_to_f32(0x38) == 1.0F);
  CHECK(f8_e4m3_to_f32(0xB9) == -1.125F);
  CHECK(f8_e4m3_to_f32(0x7E) == 448.0F);
  CHECK(f8_e4m3_to_f32(0xFE) == -448.0F);
  CHECK(std::isnan(f8_e4m3_to_f32(0x7F)));
  CHECK(std::isnan(f8_e4m3_to_f32(0xFF)));
  for (unsigned code = 1; code < 0x7F; ++code)
    CHECK(f8_e4m3_to_f32(static_cast<std::uint8_t>(code)) >
          f8_e4m3_to_f32(static_cast<std::uint8_t>(code - 1)));
}

/// The reference implementation: element by element, by the definition of a view.
std::string slow_rows(const TensorView& view, std::string_view file, std::uint64_t first,
                      std::uint64_t count) {
  const std::size_t item = size_bytes(view.dtype);
  std::string out;
  for (std::uint64_t row = first; row < first + count; ++row) {
    std::uint64_t from = row;
    if (view.rotary_width != 0) {
      const std::uint64_t h = row / view.rotary_width;
      const std::uint64_t i = row % view.rotary_width / 2;
      const std::uint64_t j = row % 2;
      from = h * view.rotary_width + j * view.rotary_width / 2 + i;
    }
    for (std::uint64_t col = 0; col < view.cols(); ++col)
      out += file.substr(view.offset_bytes + (from * view.row_stride + col * view.col_stride) * item, item);
  }
  return out;
}

TEST_CASE("rows of a view are what element by element gives, however they lie") {
  std::string file(400'000, '\0');
  std::mt19937 random(1);
  for (char& byte : file) byte = static_cast<char>(random());
  const tests::TempDir folder;
  tests::write_plainly(folder / "x", file);
  const auto opened = base::File::open_read(folder / "x");
  struct Form {
    Shape shape;
    std::uint64_t row_stride;
    std::uint64_t col_stride;
    std::uint64_t rotary_width;
  };
  for (const auto& [shape, row_stride, col_stride, rotary_width] : {
           Form{{64, 100}, 100, 1, 0},    // as it is
           Form{{1000}, 0, 1, 0},         // a vector
           Form{{1000}, 0, 7, 0},         // with gaps
           Form{{64, 100}, 131, 1, 0},    // a slice of columns
           Form{{64, 100}, 300, 3, 0},    // every third column
           Form{{64, 130}, 1, 64, 0},     // transposed
           Form{{2500, 5}, 1, 2600, 0},   // transposed and long
           Form{{64, 130}, 2, 200, 0},    // transposed, every second row
           Form{{5, 3}, 1, 6000, 0},      // far apart
           Form{{3, 5}, 17000, 3000, 0},  // each element alone
           Form{{500, 1}, 9, 1, 0},       // a column
           Form{{64, 100}, 100, 1, 16},   // halves
           Form{{64, 100}, 1, 64, 32},    // halves, transposed
       }) {
    for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::f64}) {
      TensorView view;
      view.name = "x";
      view.shape = shape;
      view.dtype = view.stored_dtype = dtype;
      view.offset_bytes = 11;
      view.row_stride = row_stride;
      view.col_stride = col_stride;
      view.rotary_width = rotary_width;
      CAPTURE(to_string(shape));
      CAPTURE(col_stride);
      CAPTURE(to_string(dtype));
      const TensorSource source(view, opened);
      std::vector<std::byte> out;
      for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{7}, source.rows()}) {
        for (std::uint64_t row = 0; row < source.rows(); row += step) {
          const std::uint64_t count = std::min(step, source.rows() - row);
          source.read_rows(row, count, out);
          REQUIRE(base::as_text(out) == slow_rows(view, file, row, count));
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::format
