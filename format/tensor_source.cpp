// Reads tensors in whatever order their elements have in the file.
//
// read_rows() chooses a path: contiguous rows take one read; rows with a stride take one read each; a
// transposed view is read along its columns, strip by strip, and transposed in memory (read_columns, turn); q
// and k in transformers' order are read row by row (file_row); codes of FP8 and int8 and packed 4-bit codes
// are read as stored and then decoded with their scales; GGUF's blocks are decoded as they are read, but for
// MXFP4, whose rows are put together of codes and exponents. Reading element by element would be simpler, but
// would take one call for each weight. All reads are positional on a shared descriptor and use memory of
// their own, so any number of threads may read at once.
//
// Whatever the layout, the values are those of the model in its own order, so all layouts of a release give
// the same digests (docs/checkpoints.md, "Layouts"). A view has two types: `stored_dtype` is that of the
// file, `dtype` that of the values which read_rows() returns.

#include "format/tensor_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/invariant.h"
#include "format/gguf/dequantize.h"
#include "format/mx/mx_rows.h"
#include "format/packed_int4.h"

namespace sluice::format {
namespace {

// The strip of a transposed view that is read and transposed at once: 64 columns, whose elements of one row
// make two cache lines of bf16, and 1024 rows, so that a read has 1 to 4 KiB. Measured: docs/checkpoints.md,
// "Layouts".
constexpr std::uint64_t kStripColumns = 64;
constexpr std::uint64_t kStripRows = 1024;
// The most bytes that read_line() reads at once to pick strided elements out of them, and read_quantized() to
// decode them.
constexpr std::uint64_t kSpanBytes = 64u << 10;

std::string place(std::uint64_t row, std::uint64_t col) {
  return " at [" + std::to_string(row) + ", " + std::to_string(col) + "]";
}

/// Copies every step-th element.
void pick(base::Bytes from, std::uint64_t step, std::uint64_t element_bytes, base::MutableBytes to) {
  for (std::size_t at = 0, source = 0; at < to.size(); at += element_bytes, source += step * element_bytes)
    std::memcpy(&to[at], &from[source], element_bytes);
}

/// Transposes: lines[l][i] becomes out[i][l] for i from `first` on. The rows of `out` are `row_bytes` apart.
template <typename T>
void turn(base::Bytes lines, std::size_t line_count, std::size_t row_bytes, std::byte* out,
          std::size_t first = 0) {
  const std::size_t length = lines.size() / sizeof(T) / line_count;
  for (std::size_t i = first; i < length; ++i)
    for (std::size_t l = 0; l < line_count; ++l)
      std::memcpy(out + i * row_bytes + l * sizeof(T), lines.data() + (l * length + i) * sizeof(T),
                  sizeof(T));
}

typedef std::uint16_t Eight __attribute__((vector_size(16)));

/// Transposes eight lines of eight 2-byte elements in registers. The place of (line, element) has a number of
/// 3 + 3 bits; each round of interleaving rotates its bits by one, and three rounds swap the halves.
void turn_eight(const std::byte* lines, std::size_t line_bytes, std::byte* out, std::size_t row_bytes) {
  Eight places[8];
  for (std::size_t l = 0; l < 8; ++l) std::memcpy(&places[l], lines + l * line_bytes, sizeof(Eight));
  for (int round = 0; round < 3; ++round) {
    Eight turned[8];
    for (std::size_t l = 0; l < 4; ++l) {
      turned[2 * l] = __builtin_shufflevector(places[l], places[l + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      turned[2 * l + 1] = __builtin_shufflevector(places[l], places[l + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    std::memcpy(places, turned, sizeof(places));
  }
  for (std::size_t i = 0; i < 8; ++i) std::memcpy(out + i * row_bytes, &places[i], sizeof(Eight));
}

/// The fast path for 2-byte elements, which most weights are.
void turn_pairs_of_bytes(base::Bytes lines, std::size_t line_count, std::size_t row_bytes, std::byte* out) {
  const std::size_t line_bytes = lines.size() / line_count;
  // Other numbers of lines, and the columns behind the last whole group of eight, take the plain loop.
  const std::size_t eights = line_count % 8 == 0 ? line_bytes / sizeof(Eight) : 0;
  for (std::size_t i = 0; i < eights; ++i)
    for (std::size_t l = 0; l < line_count; l += 8)
      turn_eight(lines.data() + l * line_bytes + i * sizeof(Eight), line_bytes,
                 out + i * 8 * row_bytes + l * sizeof(std::uint16_t), row_bytes);
  turn<std::uint16_t>(lines, line_count, row_bytes, out, eights * 8);
}

void turn(base::Bytes lines, std::size_t line_count, std::size_t element_bytes, std::size_t row_bytes,
          std::byte* out) {
  switch (element_bytes) {
    case 1: return turn<std::uint8_t>(lines, line_count, row_bytes, out);
    case 2: return turn_pairs_of_bytes(lines, line_count, row_bytes, out);
    case 4: return turn<std::uint32_t>(lines, line_count, row_bytes, out);
    case 8: return turn<std::uint64_t>(lines, line_count, row_bytes, out);
    default: INVARIANT(!"an element of another size");
  }
}

/// Lines of bytes in a file, which begin `step_bytes` apart.
struct FileLines {
  std::uint64_t offset_bytes = 0;  ///< of the first one
  std::uint64_t step_bytes = 0;
  std::uint64_t line_bytes = 0;
};

/// Reads lines into `out`, where they begin `out_step_bytes` apart. What lies between the lines is read and
/// dropped, up to kSpanBytes at once: that is cheaper than one call for each line.
void read_lines(const base::File& file, const FileLines& lines, std::uint64_t count, base::MutableBytes out,
                std::uint64_t out_step_bytes) {
  const std::uint64_t together =
      std::min(count, std::max<std::uint64_t>(kSpanBytes / std::max<std::uint64_t>(lines.step_bytes, 1), 1));
  if (together == 0) return;
  std::vector<std::byte> span((together - 1) * lines.step_bytes + lines.line_bytes);
  for (std::uint64_t done = 0; done < count; done += together) {
    const std::uint64_t now = std::min(together, count - done);
    const auto bytes = base::MutableBytes(span).first((now - 1) * lines.step_bytes + lines.line_bytes);
    file.read_exact_at(lines.offset_bytes + done * lines.step_bytes, bytes);
    for (std::uint64_t i = 0; i < now; ++i)
      std::memcpy(&out[(done + i) * out_step_bytes], &bytes[i * lines.step_bytes], lines.line_bytes);
  }
}

float load_float(DType dtype, base::Bytes bytes, std::size_t at) {
  switch (dtype) {
    case DType::f32: return base::load_le<float>(bytes, at);
    case DType::bf16: return bf16_to_f32(base::load_le<std::uint16_t>(bytes, at));
    case DType::f16: return f16_to_f32(base::load_le<std::uint16_t>(bytes, at));
    default: INVARIANT(!"scales are floats: released_model.cpp has seen to it");
  }
}

/// The values of 4-bit codes, which are stored as code + 8 (packed_int4.h).
constexpr std::array<float, 256> int4_values() {
  std::array<float, 256> table{};
  for (int code = 0; code < 16; ++code) table[static_cast<std::size_t>(code)] = static_cast<float>(code - 8);
  return table;
}

constexpr std::array<float, 256> int8_values() {
  std::array<float, 256> table{};
  for (std::size_t code = 0; code < table.size(); ++code)
    table[code] = static_cast<float>(static_cast<std::int8_t>(code));
  return table;
}

/// All values of codes of a type. A function-local static is initialized once, also with several threads.
const std::array<float, 256>& code_values(DType dtype) {
  static constexpr std::array<float, 256> kInt4 = int4_values();
  static constexpr std::array<float, 256> kInt8 = int8_values();
  if (dtype == DType::i32) return kInt4;
  if (dtype == DType::i8) return kInt8;
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (std::size_t code = 0; code < table.size(); ++code)
      table[code] = f8_e4m3_to_f32(static_cast<std::uint8_t>(code));
    return table;
  }();
  return values;
}

/// Types whose values are code x scale.
bool is_code(DType dtype) { return dtype == DType::f8_e4m3 || dtype == DType::i8 || dtype == DType::i32; }

}  // namespace

/// The sources of the two tensors of SplitHeads.
struct TensorSource::Halves {
  base::File keys_file;
  base::File values_file;
  TensorSource keys;
  TensorSource values;

  explicit Halves(const SplitHeads& split)
      : keys_file(base::File::open_read(split.keys_file)),
        values_file(base::File::open_read(split.values_file)),
        keys(split.keys, keys_file),
        values(split.values, values_file) {}
};

TensorSource::TensorSource(const TensorView& view, const base::File& file)
    : view_(view),
      file_(file),
      rows_(view.rows()),
      cols_(view.cols()),
      stored_bytes_(block_weights(view.stored_dtype) > 1 ? 0 : size_bytes(view.stored_dtype)),
      row_bytes_(stored_bytes(view.dtype, view.cols())) {
  INVARIANT(view.shape.size() == 1 || view.shape.size() == 2);
  // Blocks cannot be strided or reordered, and only codes of FP8, int8 and 4 bits have scales;
  // released_model.cpp refuses other combinations.
  if (view.dtype == DType::mxfp4) {
    INVARIANT(view.rotary_width == 0 && cols_ % kMx4BlockCols == 0);
    INVARIANT(view.scale ? view.stored_dtype == DType::u8 && view.scale->dtype == DType::u8
                         : view.stored_dtype == DType::mxfp4 && view.col_stride == 1);
    if (view.scale) exponents_file_ = base::File::open_read(view.scale->file);
    return;
  }
  INVARIANT(block_weights(view.stored_dtype) > 1
                ? view.dtype == DType::f32 && !view.scale && view.rotary_width == 0 && view.col_stride == 1
            : view.scale ? is_code(view.stored_dtype) && view.dtype == DType::bf16
                         : view.stored_dtype == view.dtype);
  if (view.scale) read_scales(*view.scale);
  if (view.split) halves_ = std::make_shared<const Halves>(*view.split);
}

void TensorSource::read_scales(const TensorScale& scale) {
  const base::File file = base::File::open_read(scale.file);
  const std::uint64_t element_bytes = size_bytes(scale.dtype);
  // All scales are read at once: there is at most one for each row or block of weights.
  const std::uint64_t span = (scale.rows - 1) * scale.row_stride + (scale.cols - 1) * scale.col_stride + 1;
  INVARIANT(span <= scale.rows * scale.cols);  // released_model.cpp refuses scales that are not row-major
  std::vector<std::byte> bytes(span * element_bytes);
  file.read_exact_at(scale.offset_bytes, bytes);
  scales_.reserve(scale.rows * scale.cols);
  for (std::uint64_t row = 0; row < scale.rows; ++row) {
    for (std::uint64_t col = 0; col < scale.cols; ++col) {
      const std::size_t at = (row * scale.row_stride + col * scale.col_stride) * element_bytes;
      const float value = load_float(scale.dtype, bytes, at);
      if (!std::isfinite(value) || value < 0) {
        base::throw_malformed(scale.file.string(), "tensor '" + scale.name + "': has the scale " +
                                                       std::to_string(value) + place(row, col));
      }
      scales_.push_back(value);
    }
  }
}

void TensorSource::read_rows(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) const {
  out.resize(static_cast<std::size_t>(count * row_bytes()));
  read_rows(first, count, base::MutableBytes(out));
}

void TensorSource::read_rows(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  INVARIANT(out.size() == count * row_bytes());
  if (view_.dtype == DType::mxfp4) return read_mxfp4(first, count, out);
  if (view_.split) return read_heads(first, count, out);
  if (block_weights(view_.stored_dtype) > 1) return read_quantized(first, count, out);
  if (!view_.scale) return read_stored(first, count, out);
  decode(read_codes(first, count), first, out);
}

/// One byte for each code.
std::vector<std::byte> TensorSource::read_codes(std::uint64_t first, std::uint64_t count) const {
  std::vector<std::byte> codes(static_cast<std::size_t>(count * cols_));
  if (view_.stored_dtype != DType::i32) {
    read_stored(first, count, codes);
    return codes;
  }
  // Packed rows follow one another.
  const std::uint64_t row_bytes = packed_int4_row_bytes(cols_);
  std::vector<std::byte> packed(static_cast<std::size_t>(count * row_bytes));
  file_.read_exact_at(view_.offset_bytes + first * row_bytes, packed);
  unpack_int4(packed, cols_, codes);
  return codes;
}

/// The row of the file that has row `row` of the tensor (TensorView::rotary_width). transformers' converter
/// has permuted the rows of q and k, so that RoPE's pairs are half a head apart; this undoes the permutation.
std::uint64_t TensorSource::file_row(std::uint64_t row) const {
  if (view_.rotary_width == 0) return row;
  const std::uint64_t in_head = row % view_.rotary_width;
  return row - in_head + in_head % 2 * (view_.rotary_width / 2) + in_head / 2;
}

void TensorSource::read_stored(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  if (view_.rotary_width == 0) return read_block(first, count, out);
  const std::size_t line_bytes = cols_ * stored_bytes_;
  for (std::uint64_t i = 0; i < count; ++i)
    read_block(file_row(first + i), 1, out.subspan(i * line_bytes, line_bytes));
}

void TensorSource::read_block(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  // Strides along axes of one element have no effect and may have any value.
  const bool row_whole = view_.col_stride == 1 || cols_ == 1;
  if (row_whole && (rows_ == 1 || view_.row_stride == cols_)) {
    file_.read_exact_at(view_.offset_bytes + first * cols_ * stored_bytes_, out);
    return;
  }
  // Reads go along the axis with the smaller step, so a transposed tensor is read by its columns.
  if (view_.is_transposed()) return read_columns(first, count, out);
  const std::size_t line_bytes = cols_ * stored_bytes_;
  for (std::uint64_t i = 0; i < count; ++i)
    read_line((first + i) * view_.row_stride, view_.col_stride, out.subspan(i * line_bytes, line_bytes));
}

// Rows of the tensor are strided in the file and its columns contiguous. Reads follow the columns; the strip
// keeps the columns of a few cache lines until they have been transposed into the rows of `out`.
void TensorSource::read_columns(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  const std::size_t row_bytes = cols_ * stored_bytes_;
  std::vector<std::byte> strip(std::min(kStripColumns, cols_) * std::min(kStripRows, count) * stored_bytes_);
  for (std::uint64_t row = 0; row < count; row += kStripRows) {
    const std::size_t line_bytes = std::min(kStripRows, count - row) * stored_bytes_;
    for (std::uint64_t col = 0; col < cols_; col += kStripColumns) {
      const std::size_t columns = std::min(kStripColumns, cols_ - col);
      const auto lines = base::MutableBytes(strip).first(columns * line_bytes);
      for (std::size_t c = 0; c < columns; ++c)
        read_line((first + row) * view_.row_stride + (col + c) * view_.col_stride, view_.row_stride,
                  lines.subspan(c * line_bytes, line_bytes));
      turn(lines, columns, stored_bytes_, row_bytes, out.data() + row * row_bytes + col * stored_bytes_);
    }
  }
}

/// Reads elements that are `step` apart. Reading the elements between them is cheaper than one call for each,
/// up to kSpanBytes at once.
void TensorSource::read_line(std::uint64_t element, std::uint64_t step, base::MutableBytes out) const {
  const std::uint64_t start_bytes = view_.offset_bytes + element * stored_bytes_;
  if (step == 1 || out.size() == stored_bytes_) return file_.read_exact_at(start_bytes, out);
  const std::uint64_t step_bytes = step * stored_bytes_;
  const std::uint64_t together = std::max<std::uint64_t>(kSpanBytes / step_bytes, 1);
  std::vector<std::byte> span((together - 1) * step_bytes + stored_bytes_);
  for (std::uint64_t done = 0; done * stored_bytes_ < out.size(); done += together) {
    const std::uint64_t elements = std::min(together, out.size() / stored_bytes_ - done);
    const auto bytes = base::MutableBytes(span).first((elements - 1) * step_bytes + stored_bytes_);
    file_.read_exact_at(start_bytes + done * step_bytes, bytes);
    pick(bytes, step, stored_bytes_, out.subspan(done * stored_bytes_, elements * stored_bytes_));
  }
}

/// Decodes codes block by block along each row, because every block of columns has a scale of its own.
/// The f32 product is rounded to bf16 (docs/decisions/0026).
void TensorSource::decode(base::Bytes codes, std::uint64_t first_row, base::MutableBytes out) const {
  const TensorScale& scale = *view_.scale;
  const auto& values = code_values(view_.stored_dtype);
  for (std::size_t at = 0; at < codes.size(); at += cols_) {
    const std::uint64_t row = first_row + at / cols_;
    // `first_row` of the scale is where the view begins in the scaled tensor, since a view may be a slice of
    // it.
    const float* factors = &scales_[(scale.first_row + file_row(row)) / scale.row_block * scale.cols];
    for (std::uint64_t block = 0; block < cols_; block += scale.col_block, ++factors) {
      const std::uint64_t end = std::min(block + scale.col_block, cols_);
      for (std::uint64_t col = block; col < end; ++col) {
        const float value = values[std::to_integer<std::size_t>(codes[at + col])];
        if (std::isnan(value))
          base::throw_malformed(file_.path().string(),
                                "tensor '" + view_.name + "': has NaN" + place(row, col));
        base::store_le(out, (at + col) * sizeof(std::uint16_t), f32_to_bf16(value * *factors));
      }
    }
  }
}

void TensorSource::read_heads(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  const SplitHeads& split = *view_.split;
  const std::uint64_t head_rows = split.plain_dims + split.value_dims;
  for (std::uint64_t row = first; row < first + count;) {
    const std::uint64_t head = row / head_rows;
    const std::uint64_t in_head = row % head_rows;
    const bool is_key = in_head < split.plain_dims;
    const std::uint64_t rows =
        std::min((is_key ? split.plain_dims : head_rows) - in_head, first + count - row);
    const auto part = out.subspan((row - first) * row_bytes(), rows * row_bytes());
    if (is_key) {
      read_keys(head, in_head, rows, part);
    } else {
      halves_->values.read_rows(head * split.value_dims + in_head - split.plain_dims, rows, part);
    }
    row += rows;
  }
}

/// The keys of a head are a small matrix, so it is read as a whole and transposed in memory, also where its
/// rows are blocks that cannot be read in part.
void TensorSource::read_keys(std::uint64_t head, std::uint64_t first, std::uint64_t count,
                             base::MutableBytes out) const {
  const std::uint64_t plain_dims = view_.split->plain_dims;
  const std::size_t value_bytes = size_bytes(view_.dtype);
  std::vector<std::byte> matrix;
  halves_->keys.read_rows(head * cols_, cols_, matrix);
  for (std::uint64_t i = 0; i < count; ++i)
    for (std::uint64_t col = 0; col < cols_; ++col)
      std::memcpy(&out[(i * cols_ + col) * value_bytes],
                  &matrix[(col * plain_dims + first + i) * value_bytes], value_bytes);
}

// GGUF's tensors are dense, so the rows of a view follow one another in the file. A few blocks are read and
// decoded at a time, so that the codes of a large matrix need no memory of their own.
void TensorSource::read_quantized(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  const DType type = view_.stored_dtype;
  const std::uint64_t block = block_weights(type);
  const std::uint64_t step = std::max<std::uint64_t>(kSpanBytes / stored_bytes(type, block), 1) * block;
  const std::uint64_t weights = count * cols_;
  std::vector<std::byte> blocks(stored_bytes(type, std::min(step, weights)));
  std::vector<float> values(std::min(step, weights));
  for (std::uint64_t done = 0; done < weights; done += step) {
    const std::uint64_t length = std::min(step, weights - done);
    const auto bytes = base::MutableBytes(blocks).first(stored_bytes(type, length));
    file_.read_exact_at(view_.offset_bytes + stored_bytes(type, first * cols_ + done), bytes);
    dequantize(type, bytes, std::span(values).first(length));
    std::memcpy(&out[done * sizeof(float)], values.data(), length * sizeof(float));
  }
}

void TensorSource::read_mxfp4(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  if (view_.scale) {
    const TensorScale& exponents = *view_.scale;
    read_lines(file_, {view_.offset_bytes + first * view_.row_stride, view_.row_stride, mx_code_bytes(cols_)},
               count, out, row_bytes_);
    read_lines(*exponents_file_,
               {exponents.offset_bytes + first * exponents.row_stride, exponents.row_stride,
                mx_exponent_bytes(cols_)},
               count, out.subspan(mx_code_bytes(cols_)), row_bytes_);
  } else {
    read_ggml_mxfp4(first, count, out);
  }
  for (std::uint64_t i = 0; i < count; ++i)
    require_finite_mxfp4(first + i, out.subspan(i * row_bytes_, row_bytes_));
}

// GGUF's tensors are dense, so the rows of a view follow one another in the file.
void TensorSource::read_ggml_mxfp4(std::uint64_t first, std::uint64_t count, base::MutableBytes out) const {
  const std::uint64_t together = std::min(count, std::max<std::uint64_t>(kSpanBytes / row_bytes_, 1));
  std::vector<std::byte> blocks(together * row_bytes_);
  for (std::uint64_t done = 0; done < count; done += together) {
    const auto bytes = base::MutableBytes(blocks).first(std::min(together, count - done) * row_bytes_);
    file_.read_exact_at(view_.offset_bytes + (first + done) * row_bytes_, bytes);
    for (std::size_t at = 0; at < bytes.size(); at += row_bytes_)
      mx_row_from_ggml(bytes.subspan(at, row_bytes_), out.subspan(done * row_bytes_ + at, row_bytes_));
  }
}

void TensorSource::require_finite_mxfp4(std::uint64_t row, base::Bytes bytes) const {
  const auto col = find_not_finite(bytes);
  if (!col) return;
  const std::uint64_t block = *col / kMx4BlockCols;
  const auto exponent = std::to_integer<unsigned>(bytes[mx_code_bytes(cols_) + block]);
  const std::string cause = exponent == 255 ? "has the exponent 255, which is NaN,"
                                            : "has the exponent " + std::to_string(exponent) +
                                                  " with a code whose value is beyond bf16,";
  if (!view_.scale)
    base::throw_malformed(file_.path().string(), "tensor '" + view_.name + "': " + cause + place(row, *col));
  // The place in the file's tensor, whose rows are those of all experts.
  const TensorScale& scale = *view_.scale;
  std::uint64_t element = scale.first_element + row * scale.row_stride + block;
  std::string at;
  for (std::size_t axis = scale.shape.size(); axis-- > 0; element /= scale.shape[axis])
    at = std::to_string(element % scale.shape[axis]) + (at.empty() ? "" : ", ") + at;
  base::throw_malformed(exponents_file_->path().string(),
                        "tensor '" + scale.name + "': " + cause + " at [" + at + "]");
}

void TensorSource::to_floats(base::Bytes bytes, std::uint64_t first_row, std::span<float> out) const {
  INVARIANT(bytes.size() * cols_ == out.size() * row_bytes_);
  const std::byte* source = bytes.data();
  switch (view_.dtype) {
    case DType::f32: std::memcpy(out.data(), source, bytes.size()); break;
    case DType::bf16:
    case DType::f16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, source + 2 * i, sizeof(bits));
        out[i] = view_.dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
      }
      break;
    case DType::mxfp4:
      for (std::size_t at = 0; at < bytes.size(); at += row_bytes_)
        mx_row_to_floats(bytes.subspan(at, row_bytes_), out.subspan(at / row_bytes_ * cols_, cols_));
      break;
    default: INVARIANT(!"the model's tensors are floats: released_model.cpp has seen to it");
  }
  // Larger f32 values would become infinity in bf16. NaN fails the comparison too: it must be written so, not
  // as `> kBf16Max`.
  constexpr float kBf16Max = 0x1.FEp127f;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::fabs(out[i]) <= kBf16Max) continue;
    base::throw_malformed(file_.path().string(), "tensor '" + view_.name + "': has " +
                                                     (std::isnan(out[i])   ? "NaN"
                                                      : std::isinf(out[i]) ? "infinity"
                                                                           : "a value beyond bf16") +
                                                     place(first_row + i / cols_, i % cols_));
  }
}

}  // namespace sluice::format
