// Relative RMS error of q4 beside that of llama.cpp's Q4_0 (tests/support/q4_0.h) on whole random matrices in
// the shapes of Mixtral 8x7B's experts. One matrix of each shape is 58.7 million weights.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "tests/support/q4_0.h"
#include "tests/support/quantize_row.h"

using namespace sluice;

namespace {

double q4_squared_error(const std::vector<float>& row, convert::Q4Row& q) {
  tests::quantize_row_q4(row, q);
  double error = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int integer = q.codes[i] * q.sub_scales[i / 16];
    const double difference = static_cast<double>(row[i]) - static_cast<double>(q.scale) * integer;
    error += difference * difference;
  }
  return error;
}

template <typename Distribution>
void measure(const char* name, std::size_t rows, std::size_t cols, Distribution distribution) {
  std::mt19937_64 random(1);
  std::vector<float> row(cols);
  convert::Q4Row q;
  double squares = 0;
  double ours = 0;
  double theirs = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    for (float& weight : row) {
      weight = static_cast<float>(distribution(random)) * 0.02f;
      squares += static_cast<double>(weight) * static_cast<double>(weight);
    }
    ours += q4_squared_error(row, q);
    theirs += tests::q4_0_squared_error(row);
  }
  const double bits = 4 + 5.0 / 16 + 32.0 / static_cast<double>(cols);
  std::printf("%-21s %5zu x %5zu  q4 (%.3f bits) %.5f  Q4_0 (4.5 bits) %.5f\n", name, rows, cols, bits,
              std::sqrt(ours / squares), std::sqrt(theirs / squares));
  std::fflush(stdout);
}

}  // namespace

int main() {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{14336, 4096}, {4096, 14336}}) {
    measure("Gaussian", rows, cols, std::normal_distribution<double>());
    measure("Student t, 5 degrees", rows, cols, std::student_t_distribution<double>(5));
  }
}
