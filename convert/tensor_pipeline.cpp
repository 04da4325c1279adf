#include "convert/tensor_pipeline.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"

namespace sluice::convert {
namespace {

// Three blocks are in flight, each as released bytes, floats and codes: about ten times the block in all.
constexpr std::uint64_t kBlocksOfMemory = 16;
constexpr std::uint64_t kBlockBytesMax = 16u << 20;

void append(std::vector<std::byte>& to, const std::vector<std::byte>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

TensorPipeline::TensorPipeline(TensorSink& sink, std::uint64_t memory_bytes,
                               unsigned thread_count, base::Progress& progress, const std::stop_token& stop)
    : sink_(sink),
      block_bytes_(std::min(memory_bytes / kBlocksOfMemory, kBlockBytesMax)),
      pool_(thread_count),
      progress_(progress),
      stop_(stop) {}

std::uint64_t TensorPipeline::block_rows(const TensorSource& source, format::Storage storage) const {
  const std::uint64_t rows = std::max<std::uint64_t>(block_bytes_ / source.row_bytes(), 1);
  return format::is_tiled(storage)
             ? std::max(rows / format::kPanelRows, std::uint64_t{1}) * format::kPanelRows
             : rows;
}

QuantError TensorPipeline::run(const PlannedTensor& tensor, const base::File& file,
                               std::uint64_t expert_bytes, const Compensation* compensation) {
  compensation_ = compensation;
  const TensorSource source(*tensor.source, file);
  const std::uint64_t step = block_rows(source, tensor.storage);
  const bool tiled = format::is_tiled(tensor.storage);
  sink_.begin_tensor(tensor.target, tensor.storage, tensor.source->dtype, expert_bytes);

  // Three stages, one block each: read, encode and hash, write.
  std::array<Block, 3> blocks;
  Block* reading = &blocks[0];
  Block* encoding = &blocks[1];
  Block* writing = &blocks[2];
  std::uint64_t next_row = 0;
  QuantError error;
  while (next_row < source.rows() || encoding->rows > 0 || writing->rows > 0) {
    if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    reading->first_row = next_row;
    reading->rows = std::min(step, source.rows() - next_row);
    const std::size_t parts =
        tiled ? base::divide_up(encoding->rows, format::kPanelRows) : std::size_t{encoding->rows > 0};
    encoding->panels.resize(std::max(encoding->panels.size(), parts));
    constexpr std::size_t kStages = 3;
    pool_.run(kStages + parts, [&](std::size_t task, unsigned) {
      switch (task) {
        case 0: write(*writing, error); return;
        case 1:
          source_hasher_.update(base::Bytes(encoding->bytes).first(encoding->rows * source.row_bytes()));
          return;
        case 2:
          if (reading->rows > 0) source.read_rows(reading->first_row, reading->rows, reading->bytes);
          return;
        default: encode(tensor, source, *encoding, task - kStages);
      }
    });
    progress_.advance(encoding->rows * source.row_bytes());
    next_row += reading->rows;
    writing->rows = 0;
    Block* const written = writing;
    writing = std::exchange(encoding, std::exchange(reading, written));
  }
  if (tiled) write_tail(tensor_layout(tensor));
  sink_.end_tensor(base::merkle_root(source_hasher_.final()));
  return error;
}

void TensorPipeline::encode(const PlannedTensor& tensor, const TensorSource& source, Block& block,
                            std::size_t part) {
  const bool tiled = format::is_tiled(tensor.storage);
  const std::uint64_t first = tiled ? part * format::kPanelRows : 0;
  const std::uint64_t rows = tiled ? std::min(format::kPanelRows, block.rows - first) : block.rows;
  std::vector<float> values(static_cast<std::size_t>(rows * source.cols()));
  source.to_floats(base::Bytes(block.bytes).subspan(first * source.row_bytes(), rows * source.row_bytes()),
                   block.first_row + first, values);
  if (tiled) {
    encode_panel(tensor_layout(tensor), values, block.panels[part], compensation_);
    return;
  }
  const bool f32 = tensor.storage == format::Storage::f32_rows;
  block.encoded.resize(values.size() * (f32 ? 4 : 2));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (f32) {
      base::store_le(block.encoded, i * 4, values[i]);
    } else {
      base::store_le(block.encoded, i * 2, format::f32_to_bf16(values[i]));
    }
  }
}

void TensorPipeline::write(Block& block, QuantError& error) {
  if (block.rows == 0) return;
  if (!block.encoded.empty()) {
    sink_.append(block.encoded);
    block.encoded.clear();
    return;
  }
  const std::size_t panels = base::divide_up(block.rows, format::kPanelRows);
  for (std::size_t p = 0; p < panels; ++p) {
    const EncodedPanel& panel = block.panels[p];
    sink_.append(panel.codes);
    append(tail_.magnitudes, panel.magnitudes);
    append(tail_.signs, panel.signs);
    append(tail_.row_scales, panel.row_scales);
    error += panel.error;
  }
}

void TensorPipeline::write_tail(const format::TileLayout& layout) {
  sink_.append(tail_.magnitudes);
  sink_.append(tail_.signs);
  const std::vector<std::byte> gap(layout.row_scales_offset_bytes - layout.signs_offset_bytes -
                                   tail_.signs.size());
  sink_.append(gap);
  sink_.append(tail_.row_scales);
  tail_ = {};
}

}  // namespace sluice::convert
