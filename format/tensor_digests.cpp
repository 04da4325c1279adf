// Digests of tensors over their values in the model's order, which do not depend on files or layouts
// (docs/checkpoints.md, "Layouts"). Each worker reads and hashes whole tensors, one chunk at a time, with
// buffers of its own; files are shared, because all reads are positional.

#include "format/tensor_digests.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/parallel.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kChunkBlocks = 64;  // 1 MiB at a time
constexpr std::uint64_t kChunkBytes = kChunkBlocks * base::kMerkleBlockBytes;
// A read of a transposed matrix has as many elements as a chunk has rows, so larger chunks give longer reads.
constexpr std::uint64_t kTransposedChunkBytes = 4 * kChunkBytes;

/// Computes the SHA-256 tree (BEP 52) of a message that comes in parts of any length. It hashes many leaves
/// at a time, which is several times faster than one after another.
class BlockHasher {
 public:
  void update(base::Bytes bytes) {
    if (!pending_.empty()) {
      const std::size_t taken = std::min(bytes.size(), base::kMerkleBlockBytes - pending_.size());
      pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
      bytes = bytes.subspan(taken);
      if (pending_.size() < base::kMerkleBlockBytes) return;
      hash_blocks(pending_);
      pending_.clear();
    }
    const std::size_t whole = bytes.size() / base::kMerkleBlockBytes * base::kMerkleBlockBytes;
    hash_blocks(bytes.first(whole));
    const base::Bytes rest = bytes.subspan(whole);
    pending_.assign(rest.begin(), rest.end());
  }

  [[nodiscard]] base::Sha256 root() {
    hash_blocks(pending_);
    return leaves_.empty() ? base::Sha256{} : base::merkle_root(leaves_);
  }

 private:
  void hash_blocks(base::Bytes bytes) {
    std::array<base::Bytes, kChunkBlocks> blocks;
    while (!bytes.empty()) {
      std::size_t count = 0;
      for (; count < blocks.size() && !bytes.empty(); ++count) {
        blocks[count] = bytes.first(std::min<std::size_t>(bytes.size(), base::kMerkleBlockBytes));
        bytes = bytes.subspan(blocks[count].size());
      }
      leaves_.resize(leaves_.size() + count);
      base::hash_each(std::span(blocks).first(count), std::span(leaves_).last(count));
    }
  }

  std::vector<std::byte> pending_;  ///< the start of a leaf, less than 16 KiB
  std::vector<base::Sha256> leaves_;
};

/// Views of a tensor of the files as matrices, whose values follow one another. A row of many elements
/// becomes a column, because rows are read whole and columns in parts. Tensors of three axes (fused experts)
/// become one matrix for each index of the outer axes, in row-major order.
std::vector<TensorView> matrices_of(const CheckpointTensor& tensor) {
  const std::uint64_t count = element_count(tensor.shape).value();
  if (count == 0) return {};
  TensorView view;
  view.name = tensor.name;
  view.dtype = view.stored_dtype = tensor.dtype;
  view.file_index = tensor.file_index;
  view.offset_bytes = tensor.offset_bytes;
  if (block_weights(tensor.dtype) > 1) {  // hashed as stored: no other layout has such blocks
    view.dtype = view.stored_dtype = DType::u8;
    view.shape = {tensor.extent_bytes, 1};
    view.row_stride = 1;
    return {view};
  }
  const std::size_t axes = tensor.shape.size();
  if (tensor.row_major() || axes < 2) {
    view.shape = {count, 1};
    view.row_stride = tensor.row_major() ? 1 : tensor.strides[0];
    return {view};
  }
  view.shape = {tensor.shape[axes - 2], tensor.shape[axes - 1]};
  view.row_stride = tensor.strides[axes - 2];
  view.col_stride = tensor.strides[axes - 1];
  std::vector<TensorView> views{view};
  for (std::size_t axis = axes - 2; axis-- > 0;) {
    std::vector<TensorView> along;
    for (std::uint64_t i = 0; i < tensor.shape[axis]; ++i) {
      for (TensorView inner : views) {
        inner.offset_bytes += i * tensor.strides[axis] * size_bytes(tensor.dtype);
        along.push_back(std::move(inner));
      }
    }
    views = std::move(along);
  }
  return views;
}

/// A tensor to be hashed, and the matrices that make up its values.
struct Message {
  ManifestTensor tensor;
  std::vector<TensorView> matrices;
};

/// Hashes a message chunk by chunk, so that memory does not depend on the size of the tensor.
base::Sha256 digest_of(const std::vector<TensorView>& matrices, const std::vector<base::File>& files,
                       base::Progress& progress, const std::stop_token& stop) {
  BlockHasher hasher;
  std::vector<std::byte> chunk;
  for (const TensorView& view : matrices) {
    const TensorSource source(view, files.at(view.file_index));
    const bool transposed = view.row_stride < view.col_stride;
    const std::uint64_t step =
        std::max<std::uint64_t>((transposed ? kTransposedChunkBytes : kChunkBytes) / source.row_bytes(), 1);
    for (std::uint64_t row = 0; row < source.rows(); row += step) {
      if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
      source.read_rows(row, std::min(step, source.rows() - row), chunk);
      hasher.update(chunk);
      progress.advance(chunk.size());
    }
  }
  return hasher.root();
}

std::vector<ManifestTensor> digest_all(std::vector<Message> messages,
                                       const std::vector<std::filesystem::path>& paths, unsigned thread_count,
                                       base::Progress& progress, const std::stop_token& stop) {
  std::vector<base::File> files;
  for (const auto& path : paths) files.push_back(base::File::open_read(path));
  std::uint64_t total_bytes = 0;
  for (const Message& message : messages)
    for (const TensorView& view : message.matrices) total_bytes += view.value_bytes();
  progress.begin("hashing tensors", total_bytes);
  // Each worker hashes whole tensors; there are enough of them for all workers.
  std::vector<ManifestTensor> out(messages.size());
  base::WorkerPool pool(thread_count);
  pool.run(out.size(), [&](std::size_t i, unsigned) {
    out[i] = std::move(messages[i].tensor);
    out[i].digest = digest_of(messages[i].matrices, files, progress, stop);
  });
  std::ranges::sort(out, {}, &ManifestTensor::name);
  return out;
}

}  // namespace

std::vector<ManifestTensor> digest_tensors(const CheckpointIndex& index, unsigned thread_count,
                                           base::Progress& progress, const std::stop_token& stop) {
  std::vector<Message> messages;
  for (const CheckpointTensor& tensor : index.tensors)
    messages.push_back({{tensor.name, tensor.dtype, tensor.shape, {}}, matrices_of(tensor)});
  return digest_all(std::move(messages), index.files, thread_count, progress, stop);
}

std::vector<ManifestTensor> digest_tensors(const ReleasedModel& model, unsigned thread_count,
                                           base::Progress& progress, const std::stop_token& stop) {
  std::vector<Message> messages;
  for (const ReleasedTensor& tensor : model.tensors)
    messages.push_back({{tensor.target.name, tensor.view.dtype, tensor.target.shape, {}}, {tensor.view}});
  return digest_all(std::move(messages), model.files, thread_count, progress, stop);
}

}  // namespace sluice::format
