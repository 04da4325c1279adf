// One block of rows of a tensor: read from the release, encoded strip by strip, given to the sink.
//
// The class has no lock. TensorPipeline sees to it that read() runs on the reader thread alone, that encode()
// of different strips may run on all workers at once, and that end_encoding() runs for the blocks of a tensor
// in order, because it appends to what the tensor's blocks share. Blocks are whole panels, so the bytes of a
// tensor do not depend on the size of its blocks.

#include "convert/tensor_block.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/bytes.h"

namespace sluice::convert {
namespace {

using base::kMerkleBlockBytes;
using format::DType;
using format::Storage;

// Rows of a block of a transposed tensor, whose rows are columns of the file: 1024 bf16 rows make reads of 2
// KiB, which run at the full rate.
constexpr std::uint64_t kTransposedRows = 1024;

void append(std::vector<std::byte>& to, const std::vector<std::byte>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void reserve(base::AlignedBuffer& buffer, std::uint64_t bytes) {
  if (buffer.bytes().size() < bytes) buffer = base::AlignedBuffer(static_cast<std::size_t>(bytes));
}

bool is_tiled(const InFlightTensor& tensor) { return format::is_tiled(tensor.planned().storage); }

/// True for a tensor whose bytes in the container are the released bytes.
bool stays_as_released(const PlannedTensor& tensor) {
  return tensor.storage == Storage::bf16_rows && tensor.source->dtype == DType::bf16;
}

/// Bytes that a block's rows take in encoded_. 0 for tensors that stay as released: they are written from
/// where they were read.
std::uint64_t encoded_bytes(const InFlightTensor& tensor, std::uint64_t rows) {
  const PlannedTensor& planned = tensor.planned();
  if (is_tiled(tensor))
    return base::divide_up(rows, format::kPanelRows) * tensor_layout(planned).panel_code_bytes;
  if (stays_as_released(planned)) return 0;
  return rows * tensor.source.cols() * (planned.storage == Storage::f32_rows ? 4 : 2);
}

/// `bytes` are whole bf16 values at an even address.
bool is_finite_bf16(base::Bytes bytes) {
  return kernels().finite_bf16(reinterpret_cast<const std::uint16_t*>(bytes.data()), bytes.size() / 2);
}

/// As many rows as fit the block size, rounded to whole panels and, if possible, to whole leaves. Whole
/// panels are necessary, because the planes of a panel are packed at once. With whole leaves any worker can
/// hash any leaf of the released bytes; without them one worker must hash the blocks in their order
/// (source_hasher).
std::uint64_t choose_block_rows(const PlannedTensor& tensor, const TensorSource& source, BlockSize size) {
  const std::uint64_t leaf_rows = kMerkleBlockBytes / std::gcd(source.row_bytes(), kMerkleBlockBytes);
  const std::uint64_t panel_rows = format::is_tiled(tensor.storage) ? format::kPanelRows : 1;
  const std::uint64_t step = std::lcm(leaf_rows, panel_rows);
  std::uint64_t fitting = size.good_bytes / source.row_bytes();
  if (tensor.source->is_transposed())
    fitting = std::max(fitting, std::min(kTransposedRows, size.most_bytes / source.row_bytes()));
  fitting = std::max<std::uint64_t>(fitting, 1);
  if (fitting >= step) return fitting / step * step;
  return std::max(fitting / panel_rows, std::uint64_t{1}) * panel_rows;
}

}  // namespace

InFlightTensor::InFlightTensor(const TensorJob& tensor_job, BlockSize size)
    : job(tensor_job),
      source(*job.tensor->source, *job.file),
      block_rows(choose_block_rows(planned(), source, size)),
      whole_leaves(block_rows >= source.rows() || block_rows * source.row_bytes() % kMerkleBlockBytes == 0),
      source_leaves(whole_leaves ? base::divide_up(source.rows() * source.row_bytes(), kMerkleBlockBytes)
                                 : 0) {}

base::Sha256 InFlightTensor::source_digest() {
  return base::merkle_root(whole_leaves ? source_leaves : source_hasher.final());
}

void TensorBlock::assign(std::shared_ptr<InFlightTensor> tensor, std::uint64_t first_row) {
  tensor_ = std::move(tensor);
  first_row_ = first_row;
  rows_ = std::min(tensor_->block_rows, tensor_->source.rows() - first_row);
  strip_count_ = is_tiled(*tensor_) ? panel_count() * kPanelStrips
                                    : static_cast<std::size_t>(base::divide_up(rows_, kStripRows));
  planes_.clear();
  reserve(bytes_, released_bytes());
  reserve(encoded_, encoded_bytes(*tensor_, rows_));
}

/// Counts an incomplete last panel too: it is padded with zero rows.
std::size_t TensorBlock::panel_count() const {
  return is_tiled(*tensor_) ? static_cast<std::size_t>(base::divide_up(rows_, format::kPanelRows)) : 0;
}

void TensorBlock::read() {
  tensor_->source.read_rows(first_row_, rows_, bytes_.bytes().first(released_bytes()));
}

void TensorBlock::begin_encoding() {
  if (panels_.size() < panel_count()) panels_.resize(panel_count());
  for (EncodedPanel& panel : std::span(panels_).first(panel_count()))
    panel.begin(tensor_layout(tensor_->planned()));
  // The release's leaves are hashed with the container's, by whichever worker is free.
  if (!tensor_->whole_leaves) return;
  const std::uint64_t first = first_row_ * tensor_->source.row_bytes() / kMerkleBlockBytes;
  const std::uint64_t count = base::divide_up(released_bytes(), kMerkleBlockBytes);
  leaves_.add(released(), std::span(tensor_->source_leaves).subspan(first, count));
}

/// The released bytes of a strip, empty when the strip is all padding, and its first row in the tensor.
base::Bytes TensorBlock::rows_of_strip(std::size_t strip, std::uint64_t& first_row) {
  const std::uint64_t first = std::min<std::uint64_t>(strip * kStripRows, rows_);
  const std::uint64_t rows = std::min<std::uint64_t>(kStripRows, rows_ - first);
  first_row = first_row_ + first;
  const std::uint64_t row_bytes = tensor_->source.row_bytes();
  return released().subspan(first * row_bytes, rows * row_bytes);
}

std::size_t TensorBlock::value_count(base::Bytes rows) const {
  return static_cast<std::size_t>(rows.size() / tensor_->source.row_bytes() * tensor_->source.cols());
}

void TensorBlock::encode(std::size_t strip, BlockEncoder& encoder) {
  if (is_tiled(*tensor_)) {
    encode_tiles(strip, encoder);
  } else {
    encode_rows(strip, encoder);
  }
}

void TensorBlock::encode_tiles(std::size_t strip, BlockEncoder& encoder) {
  const PlannedTensor& planned = tensor_->planned();
  const format::TileLayout layout = tensor_layout(planned);
  const std::size_t panel = strip / kPanelStrips;
  std::uint64_t first_row = 0;
  const base::Bytes rows = rows_of_strip(strip, first_row);
  const auto codes = encoded_.bytes().subspan(panel * layout.panel_code_bytes, layout.panel_code_bytes);
  if (planned.storage == Storage::mx4_tiles)
    return encoder.panels.pack_mxfp4(layout, strip % kPanelStrips, rows, codes, panels_[panel]);
  if (planned.source->dtype == DType::bf16 &&
      encoder.panels.encode_bf16(layout, strip % kPanelStrips, rows, codes, panels_[panel], tensor_->factors))
    return;
  // Other types come here, and so do NaN and infinity, which to_floats() refuses.
  encoder.values.resize(value_count(rows));
  tensor_->source.to_floats(rows, first_row, encoder.values);
  encoder.panels.encode(layout, strip % kPanelStrips, encoder.values, codes, panels_[panel],
                        tensor_->factors);
}

void TensorBlock::encode_rows(std::size_t strip, BlockEncoder& encoder) {
  const PlannedTensor& planned = tensor_->planned();
  std::uint64_t first_row = 0;
  const base::Bytes rows = rows_of_strip(strip, first_row);
  // Values that are not finite go on to to_floats(), which refuses them and names their place.
  if (stays_as_released(planned) && is_finite_bf16(rows)) return;
  std::vector<float>& values = encoder.values;
  values.resize(value_count(rows));
  tensor_->source.to_floats(rows, first_row, values);
  const bool f32 = planned.storage == Storage::f32_rows;
  const std::size_t width = f32 ? 4 : 2;
  const auto out =
      encoded_.bytes().subspan(strip * kStripRows * tensor_->source.cols() * width, values.size() * width);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (f32) {
      base::store_le(out, i * 4, values[i]);
    } else {
      base::store_le(out, i * 2, format::f32_to_bf16(values[i]));
    }
  }
}

// The planes behind the codes cover the whole matrix, so every block appends its part to the tensor, and the
// last block assembles and takes them.
void TensorBlock::end_encoding() {
  if (!tensor_->whole_leaves) tensor_->source_hasher.update(released());
  for (const EncodedPanel& panel : std::span(panels_).first(panel_count())) {
    tensor_->error += panel.error();
    append(tensor_->exponents, panel.exponents);
    append(tensor_->magnitudes, panel.magnitudes);
    append(tensor_->signs, panel.signs);
    append(tensor_->row_scales, panel.row_scales);
  }
  if (!is_last() || !is_tiled(*tensor_)) return;
  const format::TileLayout layout = tensor_layout(tensor_->planned());
  planes_ = std::move(tensor_->exponents);
  append(planes_, tensor_->magnitudes);
  append(planes_, tensor_->signs);
  // Fills the gap in front of the row scales, which begin at a multiple of 64.
  planes_.resize(layout.row_scales_offset_bytes - layout.exponents_offset_bytes);
  append(planes_, tensor_->row_scales);
}

base::Bytes TensorBlock::codes() {
  if (stays_as_released(tensor_->planned())) return released();
  return base::Bytes(encoded_.bytes()).first(encoded_bytes(*tensor_, rows_));
}

}  // namespace sluice::convert
