#include "format/tensor_digests.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/parallel.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kChunkBlocks = 64;  // 1 MiB at a time
constexpr std::uint64_t kChunkBytes = kChunkBlocks * base::kMerkleBlockBytes;

/// A checkpoint file: read in order as a rule; mapped for the rare tensor whose elements lie scattered.
struct Payload {
  base::File file;
  base::MappedFile mapped;
};

/// Walks the elements of a tensor in row-major order.
class Odometer {
 public:
  explicit Odometer(const CheckpointTensor& tensor) : tensor_(tensor), index_(tensor.shape.size()) {}

  [[nodiscard]] std::uint64_t element() const { return element_; }

  void next() {
    for (std::size_t axis = index_.size(); axis-- > 0;) {
      element_ += tensor_.strides[axis];
      if (++index_[axis] < tensor_.shape[axis]) return;
      element_ -= index_[axis] * tensor_.strides[axis];
      index_[axis] = 0;
    }
  }

 private:
  const CheckpointTensor& tensor_;
  std::vector<std::uint64_t> index_;
  std::uint64_t element_ = 0;
};

/// The next bytes of a tensor's values, row-major.
class Values {
 public:
  Values(const CheckpointTensor& tensor, const Payload& payload)
      : tensor_(tensor), payload_(payload), odometer_(tensor), element_bytes_(size_bytes(tensor.dtype)) {}

  void read(std::uint64_t offset_bytes, base::MutableBytes out) {
    if (tensor_.row_major()) {
      payload_.file.read_exact_at(tensor_.offset_bytes + offset_bytes, out);
      return;
    }
    const base::Bytes elements =
        payload_.mapped.bytes().subspan(static_cast<std::size_t>(tensor_.offset_bytes));
    for (std::size_t at = 0; at < out.size(); at += element_bytes_, odometer_.next()) {
      const std::size_t from = static_cast<std::size_t>(odometer_.element()) * element_bytes_;
      std::memcpy(&out[at], elements.subspan(from, element_bytes_).data(), element_bytes_);
    }
  }

 private:
  const CheckpointTensor& tensor_;
  const Payload& payload_;
  Odometer odometer_;
  std::size_t element_bytes_;
};

base::Sha256 digest_of(const CheckpointTensor& tensor, const Payload& payload, base::Progress& progress,
                       const std::stop_token& stop) {
  const std::uint64_t total_bytes = element_count(tensor.shape).value() * size_bytes(tensor.dtype);
  if (total_bytes == 0) return {};
  std::vector<base::Sha256> leaves(base::divide_up(total_bytes, base::kMerkleBlockBytes));
  std::vector<std::byte> chunk(std::min(kChunkBytes, total_bytes));
  Values values(tensor, payload);
  for (std::uint64_t offset = 0; offset < total_bytes; offset += kChunkBytes) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const auto bytes = base::MutableBytes(chunk).first(std::min(kChunkBytes, total_bytes - offset));
    values.read(offset, bytes);
    std::array<base::Bytes, kChunkBlocks> blocks;
    std::size_t count = 0;
    for (base::Bytes rest = bytes; !rest.empty(); rest = rest.subspan(blocks[count++].size()))
      blocks[count] = rest.first(std::min(rest.size(), base::kMerkleBlockBytes));
    const auto first = leaves.begin() + static_cast<std::ptrdiff_t>(offset / base::kMerkleBlockBytes);
    base::hash_each(std::span(blocks).first(count), {first, count});
    progress.advance(bytes.size());
  }
  return base::merkle_root(leaves);
}

}  // namespace

std::vector<ManifestTensor> digest_tensors(const CheckpointIndex& index, unsigned thread_count,
                                           base::Progress& progress, const std::stop_token& stop) {
  std::vector<Payload> payloads;
  for (const auto& file : index.files)
    payloads.push_back({base::File::open_read(file), base::MappedFile::open_read(file)});
  std::uint64_t total_bytes = 0;
  for (const CheckpointTensor& tensor : index.tensors)
    total_bytes += element_count(tensor.shape).value() * size_bytes(tensor.dtype);
  progress.begin("hashing tensors", total_bytes);
  std::vector<ManifestTensor> out(index.tensors.size());
  base::WorkerPool pool(thread_count);
  pool.run(out.size(), [&](std::size_t i, unsigned) {
    const CheckpointTensor& tensor = index.tensors[i];
    out[i] = {tensor.name, tensor.dtype, tensor.shape,
              digest_of(tensor, payloads.at(tensor.file_index), progress, stop)};
  });
  return out;
}

}  // namespace sluice::format
