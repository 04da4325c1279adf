// Decides from the memory that is left whether weights are mapped or experts are streamed, and gives the
// forward pass the same view of both.

#include "runtime/memory/residency.h"

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "base/aligned_buffer.h"
#include "base/file.h"
#include "base/page_cache.h"
#include "runtime/memory/available_memory.h"

namespace sluice::runtime {
namespace {

// The share of memory that is left for page tables, stacks, the kernel's own pages and those of files: a
// sixteenth, which is 96 MiB of 1.5 GiB.
constexpr std::uint64_t kKernelShare = 16;
// One expert computes while the next one is read.
constexpr std::size_t kSlotsMin = 2;

std::vector<const Matrix*> pinned_matrices(const Model::Impl& model) {
  std::vector<const Matrix*> all;
  if (model.head) all.push_back(&model.head->matrix);
  const auto add = [&](std::initializer_list<const WeightMatrix*> matrices) {
    for (const WeightMatrix* weights : matrices) all.push_back(&weights->matrix);
  };
  for (std::size_t l = 0; l < model.layers.size(); ++l) {
    const LayerWeights& layer = model.layers[l];
    for (const WeightMatrix* weights : matrices_of(layer.mixer)) all.push_back(&weights->matrix);
    if (layer.shared) add({&layer.shared->expert.gate, &layer.shared->expert.up, &layer.shared->expert.down});
    if (layer.dense) add({&layer.dense->gate, &layer.dense->up, &layer.dense->down});
    if (model.shape.streams_experts(l)) continue;
    for (const ExpertWeights& dense : layer.experts) add({&dense.gate, &dense.up, &dense.down});
  }
  return all;
}

/// Memory of this process that is not backed by a file, in bytes (RssAnon of proc(5)); 0 where the kernel
/// does not tell. Pages of the mapped model do not count, since the kernel can drop them.
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
  for (const auto& expert : model.container.experts()) {
    if (!model.shape.streams_experts(expert.layer)) continue;
    ++needs.expert_count;
    needs.experts_bytes += expert.length_bytes;
  }
  for (const Matrix* matrix : pinned_matrices(model)) needs.pinned_bytes += matrix->layout.total_bytes;
  return needs;
}

ResidencyPlan plan_residency(const MemoryNeeds& needs, std::uint64_t memory_bytes) {
  const std::uint64_t usable = memory_bytes - memory_bytes / kKernelShare;
  const std::uint64_t taken = needs.pinned_bytes + needs.other_bytes;
  if (usable < taken || needs.expert_bytes == 0) return {.too_low = usable < taken};
  if (usable - taken >= needs.experts_bytes) return {};
  const std::uint64_t slots = std::min((usable - taken) / needs.expert_bytes, needs.expert_count);
  if (slots < kSlotsMin) return {.too_low = true};
  return {.expert_slots = static_cast<std::size_t>(slots)};
}

std::uint64_t memory_left(std::optional<std::uint64_t> limit_bytes) {
  if (!limit_bytes) return available_memory_bytes();
  const std::uint64_t used = anonymous_bytes();
  return *limit_bytes > used ? *limit_bytes - used : 0;
}

bool is_cached(const Model::Impl& model) {
  // An estimate from samples, and 0 where the kernel does not tell (base/page_cache.h): then the memory that
  // is left decides.
  const auto file = base::File::open_read(model.container.path());
  const std::uint64_t bytes = model.container.bytes().size();
  return base::CachedSource(file, bytes, nullptr).cached_share(0, bytes) == 1;
}

PinnedWeights::PinnedWeights(const Model::Impl& model) {
  for (const Matrix* matrix : pinned_matrices(model)) {
    const base::Bytes pages(matrix->data, base::align_up(matrix->layout.total_bytes, base::kPageBytes));
    // mlock() needs a limit (RLIMIT_MEMLOCK) that many users do not have. Then reading ahead once has to do:
    // every token uses these pages, which gives the kernel reason to keep them.
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

void ResidentWeights::stream(std::size_t expert_slots) {
  pinned_ = std::make_unique<PinnedWeights>(model_);
  cache_ = std::make_unique<ExpertCache>(model_, expert_slots);
}

void ResidentWeights::begin_pass() {
  if (cache_) cache_->begin_pass();
}

const Embedding& ResidentWeights::embedding() {
  model_.prove(std::span(&model_.embedding.part, 1), pool_);
  return model_.embedding;
}

const LayerWeights& ResidentWeights::layer(std::size_t index) {
  const LayerWeights& layer = model_.layers[index];
  model_.prove(layer.parts, pool_);
  return layer;
}

const Matrix* ResidentWeights::head() {
  if (!model_.head) return nullptr;
  model_.prove(std::span(&model_.head->part, 1), pool_);
  return &model_.head->matrix;
}

ResidencyStats ResidentWeights::stats() const {
  if (!cache_) return {};
  ResidencyStats stats = cache_->stats();
  // The cache adds up the waits of all workers.
  stats.stall_s /= pool_.thread_count();
  return stats;
}

LayerExperts::LayerExperts(ResidentWeights& weights, std::size_t layer, std::span<const std::uint32_t> chosen)
    : weights_(weights), experts_(weights.model_.layers[layer].experts), chosen_(chosen) {
  if (weights_.cache_ && weights_.model_.shape.streams_experts(layer))
    streamed_.emplace(*weights_.cache_, layer, chosen);
}

bool LayerExperts::next_group() {
  ++group_count_;
  const Model::Impl& model = weights_.model_;
  if (!streamed_) {
    // All chosen experts are one group, verified together, so that the hashing of all parts is shared out
    // among the workers.
    if (!is_first_group()) return false;
    group_ = order_ = chosen_;
    std::vector<ProofPart> unproven;
    for (const std::uint32_t e : group_)
      if (model.unproven(experts_[e].part)) unproven.push_back(experts_[e].part);
    model.prove(unproven, weights_.pool_);
    return !group_.empty();
  }
  group_ = streamed_->next();
  order_ = streamed_->order();
  for (const std::uint32_t e : group_) {
    // The memory that is hashed is the memory that is computed with. Hashing the mapped file instead would
    // read the expert twice, and would prove other bytes.
    if (!model.unproven(experts_[e].part)) continue;
    streamed_->await_all(e);
    model.proofs->prove(experts_[e].part, streamed_->bytes(e), weights_.pool_);
  }
  return !group_.empty();
}

const Matrix& LayerExperts::mapped(std::uint32_t expert, ExpertMatrix which) const {
  switch (which) {
    case ExpertMatrix::gate: return experts_[expert].gate.matrix;
    case ExpertMatrix::up: return experts_[expert].up.matrix;
    case ExpertMatrix::down: break;
  }
  return experts_[expert].down.matrix;
}

Matrix LayerExperts::matrix(std::uint32_t expert, ExpertMatrix which, std::size_t panels_end) const {
  if (!streamed_) return mapped(expert, which);
  streamed_->await(expert, which, panels_end);
  return streamed_->matrix(expert, which);
}

void LayerExperts::run(std::size_t task_count, base::TaskRef body) const {
  if (streamed_) {
    weights_.pool_.run(task_count, body);
  } else {
    weights_.pool_.run_in_shares(task_count, body);
  }
}

}  // namespace sluice::runtime
