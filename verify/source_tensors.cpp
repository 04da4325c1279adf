#include "verify/source_tensors.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/merkle.h"
#include "base/parallel.h"
#include "format/checkpoint_index.h"

namespace sluice::verify {
namespace {

constexpr std::uint64_t kBufferBytesMax = 4u << 20;

enum class Judgement : std::uint8_t { equal, differs, unread };

Judgement judge(const format::ContainerTensor& tensor, const format::CheckpointIndex& checkpoint,
                const std::vector<base::File>& files, base::MutableBytes buffer, base::Progress& progress,
                const std::stop_token& stop) {
  const auto* source = checkpoint.find(tensor.name);
  if (source == nullptr || source->dtype != tensor.source_dtype || source->shape != tensor.shape)
    return Judgement::differs;
  if (!source->row_major()) return Judgement::unread;
  base::LeafHasher hasher;
  for (std::uint64_t done = 0; done < source->extent_bytes;) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const auto count = std::min<std::uint64_t>(buffer.size(), source->extent_bytes - done);
    const auto bytes = buffer.first(static_cast<std::size_t>(count));
    files[source->file_index].read_exact_at(source->offset_bytes + done, bytes);
    files[source->file_index].drop_cache(source->offset_bytes + done, count);
    hasher.update(bytes);
    progress.advance(count);
    done += count;
  }
  const auto leaves = hasher.final();
  const bool same = !leaves.empty() && base::merkle_root(leaves) == tensor.source_digest;
  return same ? Judgement::equal : Judgement::differs;
}

}  // namespace

SourceTensors compare_source_tensors(const format::ContainerReader& container,
                                     const std::filesystem::path& release, const Options& options,
                                     base::Progress& progress, const std::stop_token& stop) {
  const auto checkpoint = format::open_checkpoint(release);
  std::vector<base::File> files;
  for (const auto& file : checkpoint.files) files.push_back(base::File::open_read(file));
  std::uint64_t total_bytes = 0;
  for (const auto& tensor : checkpoint.tensors) total_bytes += tensor.extent_bytes;
  progress.begin("comparing tensors", total_bytes);

  base::WorkerPool pool(std::max(1u, options.thread_count));
  const std::uint64_t share_bytes = options.memory_bytes / pool.thread_count();
  const auto buffer_bytes = std::clamp<std::uint64_t>(share_bytes, base::kMerkleBlockBytes, kBufferBytesMax);
  std::vector<std::vector<std::byte>> buffers(pool.thread_count());
  for (auto& buffer : buffers) buffer.resize(static_cast<std::size_t>(buffer_bytes));
  const auto& tensors = container.tensors();
  std::vector<Judgement> judgements(tensors.size());
  pool.run(tensors.size(), [&](std::size_t i, unsigned worker) {
    judgements[i] = judge(tensors[i], checkpoint, files, buffers[worker], progress, stop);
  });

  SourceTensors found;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (judgements[i] == Judgement::equal) ++found.equal;
    if (judgements[i] == Judgement::unread) ++found.unread;
    if (judgements[i] == Judgement::differs && found.differing++ == 0)
      found.first_differing = tensors[i].name;
  }
  return found;
}

}  // namespace sluice::verify
