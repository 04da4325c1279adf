#include "convert/tensor_pipeline.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"
#include "base/task_thread.h"

namespace sluice::convert {
namespace {

using base::kMerkleBlockBytes;
using format::DType;
using format::Storage;

// One is written and hashed, one encoded, two are read: so a reader that gets no processor for a while keeps
// nobody waiting.
constexpr std::size_t kBlocks = 4;
// Each as released bytes and as codes, which may be twice as many.
constexpr std::uint64_t kBlocksOfMemory = 4 * kBlocks;
// Work for every thread, and yet in the caches until it has been hashed: 8 MiB for two threads took longer.
constexpr std::uint64_t kBlockBytesPerThread = 2u << 20;

void append(std::vector<std::byte>& to, const std::vector<std::byte>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void reserve(base::AlignedBuffer& buffer, std::uint64_t bytes) {
  if (buffer.bytes().size() < bytes) buffer = base::AlignedBuffer(static_cast<std::size_t>(bytes));
}

/// Their bytes in the container are the released ones.
bool stays_as_released(const PlannedTensor& tensor) {
  return tensor.storage == Storage::bf16_rows && tensor.source->dtype == DType::bf16;
}

std::uint64_t encoded_bytes(const PlannedTensor& tensor, std::uint64_t rows, std::uint64_t cols) {
  if (format::is_tiled(tensor.storage))
    return base::divide_up(rows, format::kPanelRows) * tensor_layout(tensor).panel_code_bytes;
  if (stays_as_released(tensor)) return 0;
  return rows * cols * (tensor.storage == Storage::f32_rows ? 4 : 2);
}

/// Of whole values that begin at an even address.
bool is_finite_bf16(base::Bytes bytes) {
  return kernels().finite_bf16(reinterpret_cast<const std::uint16_t*>(bytes.data()), bytes.size() / 2);
}

/// A panel is encoded whole, whether all its rows are there or not.
std::size_t panel_count(const PlannedTensor& tensor, std::uint64_t rows) {
  return format::is_tiled(tensor.storage)
             ? static_cast<std::size_t>(base::divide_up(rows, format::kPanelRows))
             : 0;
}

std::size_t strip_count(const PlannedTensor& tensor, std::uint64_t rows) {
  return format::is_tiled(tensor.storage) ? panel_count(tensor, rows) * kPanelStrips
                                          : static_cast<std::size_t>(base::divide_up(rows, kStripRows));
}

}  // namespace

TensorPipeline::TensorPipeline(TensorSink& sink, std::uint64_t memory_bytes, unsigned thread_count,
                               base::Progress& progress, const std::stop_token& stop)
    : sink_(sink),
      block_bytes_(
          std::min(memory_bytes / kBlocksOfMemory, std::max(thread_count, 2u) * kBlockBytesPerThread)),
      pool_(thread_count),
      progress_(progress),
      stop_(stop),
      encoders_(pool_.thread_count()),
      values_(pool_.thread_count()) {}

void TensorPipeline::run(std::span<const TensorJob> jobs, const FindCompensation& find_compensation) {
  jobs_ = jobs;
  std::array<Block, kBlocks> blocks;
  const auto block = [&](std::size_t number) -> Block& { return blocks[number % kBlocks]; };
  // They end before the blocks do.
  base::TaskThread reader;
  base::TaskThread writer;
  Cursor cursor;
  const auto read = [&](std::size_t number) {
    plan_block(cursor, block(number));
    reader.post([&released = block(number)] { TensorPipeline::read(released); });
  };

  read(0);
  read(1);
  for (std::size_t number = 0;; ++number) {
    if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    reader.wait(1);
    Block& encoding = block(number);
    Block& writing = block(number + kBlocks - 1);
    if (encoding.rows == 0 && writing.rows == 0) return;
    if (writing.rows > 0) begin_writing(writing);
    if (encoding.rows > 0) begin_encoding(encoding, find_compensation);
    writer.post([&] { write(writing); });
    compute(encoding, writing, [&] { read(number + 2); });
    writer.wait();
    if (writing.rows > 0) end_writing(writing);
    if (encoding.rows > 0) end_encoding(encoding);
  }
}

void TensorPipeline::compute(Block& encoding, Block& writing, const std::function<void()>& read_ahead) {
  // The file's hash first, for it is the longest and takes leaves along; what leaves are left then, last. The
  // reader is woken when the workers are, for it may take the processor of who wakes it.
  constexpr std::size_t kSingleTasks = 2;
  const std::size_t strips = encoding.rows > 0 ? strip_count(tensor_of(encoding), encoding.rows) : 0;
  const std::size_t encode_end = kSingleTasks + strips;
  pool_.run(encode_end + pool_.thread_count(), [&](std::size_t task, unsigned worker) {
    if (task == 0) {
      read_ahead();
      hash(writing);
    } else if (task == 1) {
      if (encoding.rows > 0 && !encoding.whole_leaves) source_hasher_.update(encoding.released());
    } else if (task < encode_end) {
      encode(encoding, task - kSingleTasks, worker);
    } else {
      leaves_.hash();
    }
  });
}

/// Whole panels, and whole leaves of the tree over the released bytes where that does not take too many rows.
std::uint64_t TensorPipeline::block_rows(const TensorSource& source, Storage storage) const {
  const std::uint64_t leaf_rows = kMerkleBlockBytes / std::gcd(source.row_bytes(), kMerkleBlockBytes);
  const std::uint64_t panel_rows = format::is_tiled(storage) ? format::kPanelRows : 1;
  const std::uint64_t step = std::lcm(leaf_rows, panel_rows);
  const std::uint64_t fitting = std::max<std::uint64_t>(block_bytes_ / source.row_bytes(), 1);
  if (fitting >= step) return fitting / step * step;
  return std::max(fitting / panel_rows, std::uint64_t{1}) * panel_rows;
}

void TensorPipeline::plan_block(Cursor& cursor, Block& block) const {
  block.rows = 0;
  if (cursor.job == jobs_.size()) return;
  const TensorJob& job = jobs_[cursor.job];
  if (!cursor.source) cursor.source = std::make_shared<const TensorSource>(*job.tensor->source, *job.file);
  const std::uint64_t step = block_rows(*cursor.source, job.tensor->storage);
  block.job = cursor.job;
  block.source = cursor.source;
  block.first_row = cursor.row;
  block.rows = std::min(step, cursor.source->rows() - cursor.row);
  block.whole_leaves =
      step >= cursor.source->rows() || step * cursor.source->row_bytes() % kMerkleBlockBytes == 0;
  reserve(block.bytes, block.byte_count());
  reserve(block.encoded, encoded_bytes(*job.tensor, block.rows, cursor.source->cols()));
  cursor.row += block.rows;
  if (cursor.row == cursor.source->rows()) cursor = {cursor.job + 1, nullptr, 0};
}

void TensorPipeline::begin_encoding(Block& block, const FindCompensation& find_compensation) {
  const PlannedTensor& tensor = tensor_of(block);
  const std::size_t panels = panel_count(tensor, block.rows);
  if (block.panels.size() < panels) block.panels.resize(panels);
  for (EncodedPanel& panel : std::span(block.panels).first(panels)) panel.begin(tensor_layout(tensor));
  const std::uint64_t row_bytes = block.source->row_bytes();
  if (block.is_first()) {
    compensation_ = find_compensation ? find_compensation(tensor) : nullptr;
    source_leaves_.resize(base::divide_up(block.source->rows() * row_bytes, kMerkleBlockBytes));
  }
  if (!block.whole_leaves) return;
  const std::uint64_t first = block.first_row * row_bytes / kMerkleBlockBytes;
  const std::uint64_t count = base::divide_up(block.byte_count(), kMerkleBlockBytes);
  leaves_.add(block.released(), std::span(source_leaves_).subspan(first, count));
}

/// The released bytes of a strip, which may be none, and its first row within the tensor.
base::Bytes TensorPipeline::rows_of_strip(Block& block, std::size_t strip, std::uint64_t& first_row) const {
  const std::uint64_t first = std::min<std::uint64_t>(strip * kStripRows, block.rows);
  const std::uint64_t rows = std::min<std::uint64_t>(kStripRows, block.rows - first);
  first_row = block.first_row + first;
  return block.released().subspan(first * block.source->row_bytes(), rows * block.source->row_bytes());
}

void TensorPipeline::encode(Block& block, std::size_t strip, unsigned worker) {
  if (format::is_tiled(tensor_of(block).storage)) {
    encode_tiles(block, strip, worker);
  } else {
    encode_rows(block, strip, worker);
  }
}

void TensorPipeline::encode_tiles(Block& block, std::size_t strip, unsigned worker) {
  const PlannedTensor& tensor = tensor_of(block);
  const format::TileLayout layout = tensor_layout(tensor);
  const std::size_t index = strip / kPanelStrips;
  std::uint64_t first_row = 0;
  const base::Bytes rows = rows_of_strip(block, strip, first_row);
  const auto codes = block.encoded.bytes().subspan(index * layout.panel_code_bytes, layout.panel_code_bytes);
  EncodedPanel& panel = block.panels[index];
  if (tensor.source->dtype == DType::bf16 &&
      encoders_[worker].encode_bf16(layout, strip % kPanelStrips, rows, codes, panel, compensation_))
    return;
  // Other types; and NaN and infinity, which to_floats refuses.
  std::vector<float>& values = values_[worker];
  values.resize(static_cast<std::size_t>(rows.size() / format::size_bytes(tensor.source->dtype)));
  block.source->to_floats(rows, first_row, values);
  encoders_[worker].encode(layout, strip % kPanelStrips, values, codes, panel, compensation_);
}

void TensorPipeline::encode_rows(Block& block, std::size_t strip, unsigned worker) {
  const PlannedTensor& tensor = tensor_of(block);
  std::uint64_t first_row = 0;
  const base::Bytes rows = rows_of_strip(block, strip, first_row);
  if (stays_as_released(tensor) && is_finite_bf16(rows)) return;
  std::vector<float>& values = values_[worker];
  values.resize(static_cast<std::size_t>(rows.size() / format::size_bytes(tensor.source->dtype)));
  block.source->to_floats(rows, first_row, values);
  const bool f32 = tensor.storage == Storage::f32_rows;
  const std::size_t width = f32 ? 4 : 2;
  const auto out =
      block.encoded.bytes().subspan(strip * kStripRows * block.source->cols() * width, values.size() * width);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (f32) {
      base::store_le(out, i * 4, values[i]);
    } else {
      base::store_le(out, i * 2, format::f32_to_bf16(values[i]));
    }
  }
}

void TensorPipeline::end_encoding(Block& block) {
  progress_.advance(block.byte_count());
  const PlannedTensor& tensor = tensor_of(block);
  for (const EncodedPanel& panel : std::span(block.panels).first(panel_count(tensor, block.rows))) {
    error_ += panel.error();
    append(tail_.magnitudes, panel.magnitudes);
    append(tail_.signs, panel.signs);
    append(tail_.row_scales, panel.row_scales);
  }
  block.tail.clear();
  if (!block.is_last()) return;
  if (format::is_tiled(tensor.storage)) block.tail = take_tail(tensor_layout(tensor));
  block.error = std::exchange(error_, {});
  block.source_digest = base::merkle_root(block.whole_leaves ? source_leaves_ : source_hasher_.final());
}

std::vector<std::byte> TensorPipeline::take_tail(const format::TileLayout& layout) {
  std::vector<std::byte> tail = std::move(tail_.magnitudes);
  append(tail, tail_.signs);
  tail.resize(layout.row_scales_offset_bytes - layout.magnitudes_offset_bytes);
  append(tail, tail_.row_scales);
  tail_ = {};
  return tail;
}

void TensorPipeline::read(Block& block) {
  if (block.rows > 0)
    block.source->read_rows(block.first_row, block.rows, block.bytes.bytes().first(block.byte_count()));
}

void TensorPipeline::begin_writing(const Block& block) {
  if (!block.is_first()) return;
  const PlannedTensor& tensor = tensor_of(block);
  sink_.begin_tensor(tensor.target, tensor.storage, tensor.source->dtype, jobs_[block.job].expert_bytes);
}

base::Bytes TensorPipeline::main_bytes(Block& block) const {
  const PlannedTensor& tensor = tensor_of(block);
  if (stays_as_released(tensor)) return block.released();
  return base::Bytes(block.encoded.bytes()).first(encoded_bytes(tensor, block.rows, block.source->cols()));
}

void TensorPipeline::write(Block& block) {
  if (block.rows == 0) return;
  sink_.write(main_bytes(block));
  sink_.write(block.tail);
  if (block.is_last()) sink_.finish_write();
}

void TensorPipeline::hash(Block& block) {
  if (block.rows == 0) return;
  sink_.hash(main_bytes(block), leaves_);
  sink_.hash(block.tail, leaves_);
}

void TensorPipeline::end_writing(Block& block) {
  if (block.is_last()) sink_.end_tensor(block.source_digest, block.error);
}

}  // namespace sluice::convert
