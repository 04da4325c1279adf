#include "runtime/memory/residency.h"

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "base/aligned_buffer.h"
#include "base/file.h"
#include "base/page_cache.h"
#include "runtime/memory/available_memory.h"
#include "runtime/memory/expert_cache.h"

namespace sluice::runtime {
namespace {

// For page tables, stacks, the kernel's own pages and those of files: 1/16 of the memory, that is 96 MiB of
// 1.5 GiB.
constexpr std::uint64_t kKernelShare = 16;
constexpr std::size_t kSlotsMin = 2;

std::vector<const Matrix*> pinned_matrices(const Model::Impl& model) {
  std::vector<const Matrix*> all{&model.head.matrix};
  for (const LayerWeights& layer : model.layers)
    for (const WeightMatrix* weights : {&layer.wq, &layer.wk, &layer.wv, &layer.wo})
      all.push_back(&weights->matrix);
  return all;
}

/// Memory of this process that no file stands behind; 0 where the kernel does not tell.
std::uint64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(line.find(':') + 1)) * 1024;
  return 0;
}

}  // namespace

MemoryNeeds memory_needs(const Model::Impl& model, std::uint64_t other_bytes) {
  MemoryNeeds needs;
  needs.other_bytes = other_bytes;
  needs.expert_bytes = ExpertCache::slot_bytes(model);
  for (const LayerWeights& layer : model.layers) needs.expert_count += layer.experts.size();
  for (const auto& expert : model.container.experts()) needs.experts_bytes += expert.length_bytes;
  for (const Matrix* matrix : pinned_matrices(model)) needs.pinned_bytes += matrix->layout.total_bytes;
  return needs;
}

ResidencyPlan plan_residency(const MemoryNeeds& needs, std::uint64_t memory_bytes) {
  const std::uint64_t usable = memory_bytes - memory_bytes / kKernelShare;
  const std::uint64_t taken = needs.pinned_bytes + needs.other_bytes;
  if (usable < taken || needs.expert_bytes == 0) return {};
  if (usable - taken >= needs.experts_bytes) return {};
  const std::uint64_t slots = std::min((usable - taken) / needs.expert_bytes, needs.expert_count);
  return {slots >= kSlotsMin ? static_cast<std::size_t>(slots) : 0};
}

std::uint64_t memory_left(std::optional<std::uint64_t> limit_bytes) {
  if (!limit_bytes) return available_memory_bytes();
  const std::uint64_t used = anonymous_bytes();
  return *limit_bytes > used ? *limit_bytes - used : 0;
}

bool is_cached(const Model::Impl& model) {
  const auto file = base::File::open_read(model.container.path());
  const std::uint64_t bytes = model.container.bytes().size();
  return base::CachedSource(file, bytes, nullptr).cached_share(0, bytes) == 1;
}

PinnedWeights::PinnedWeights(const Model::Impl& model) {
  for (const Matrix* matrix : pinned_matrices(model)) {
    const base::Bytes pages(matrix->data, base::align_up(matrix->layout.total_bytes, base::kPageBytes));
    if (::mlock(pages.data(), pages.size()) == 0) {
      locked_.push_back(pages);
    } else {
      ::madvise(const_cast<std::byte*>(pages.data()), pages.size(), MADV_WILLNEED);
    }
  }
}

PinnedWeights::~PinnedWeights() {
  for (const base::Bytes pages : locked_) ::munlock(pages.data(), pages.size());
}

}  // namespace sluice::runtime
