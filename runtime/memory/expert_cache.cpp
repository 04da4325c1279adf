// The expert cache: slots, the two threads that fill them, and the groups of experts that a layer computes
// with.
//
// Three kinds of threads meet here. The engine's thread owns the bookkeeping: which expert is in which slot,
// values and locks. Readers take pieces from queue_ and publish them. Workers only wait for pieces
// (Cursor::await). Readers touch a slot's `extent` and memory while it is locked, and the engine's thread
// changes `extent` only when no read of that slot is queued or under way; so `extent` needs no mutex.
//
// Publication: a reader writes the bytes, then raises pieces_there with release order; a worker that has
// loaded the number with acquire order may read all pieces before it. pieces_there counts a prefix of the
// pieces, although two readers finish out of order, because a prefix is one number to wait for.

#include "runtime/memory/expert_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/invariant.h"

namespace sluice::runtime {
namespace {

using Clock = std::chrono::steady_clock;

// Long enough for the full rate of the disk, short enough that computing starts early and continues while the
// next piece is read. Measured: 1, 4 and 16 MiB gave 1.97, 2.43 and 2.50 GB/s
// (docs/decisions/0012-experts-in-own-memory.md).
constexpr std::uint64_t kPieceBytes = std::uint64_t{4} << 20;
// The kernel first clears memory that was never used before it reads into it, and the disk waits meanwhile.
// With a second reader the disk works for one while memory is cleared for the other. Four took as long as
// two.
constexpr std::size_t kReaders = 2;
constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;
constexpr float kDecay = 0.97f;  // of an expert's value from pass to pass; a guess
// Larger than any number of pieces, so that every wait for `pieces_there >= count` ends.
constexpr std::uint32_t kFailed = ~std::uint32_t{0};

/// Memory that begins on a huge page and consists of huge pages where the kernel has them. It takes a huge
/// page more of address space than it needs, to align the begin. Reads past the page cache into huge pages
/// came to 3.2 to 3.4 GB/s, into pages of 4 KiB to 1.2 to 1.5 (docs/larger-than-memory.md). Alignment also
/// satisfies O_DIRECT.
class SlotMemory {
 public:
  explicit SlotMemory(std::uint64_t bytes) : mapped_bytes_(bytes + kHugePageBytes) {
    mapped_ = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    const auto address = base::align_up(reinterpret_cast<std::uintptr_t>(mapped_), kHugePageBytes);
    bytes_ = {reinterpret_cast<std::byte*>(address), static_cast<std::size_t>(bytes)};
    ::madvise(bytes_.data(), bytes_.size(), MADV_HUGEPAGE);
  }
  ~SlotMemory() { ::munmap(mapped_, mapped_bytes_); }
  SlotMemory(const SlotMemory&) = delete;
  SlotMemory& operator=(const SlotMemory&) = delete;

  [[nodiscard]] base::MutableBytes bytes() const { return bytes_; }

 private:
  std::uint64_t mapped_bytes_;
  void* mapped_;
  base::MutableBytes bytes_;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Experts of a group: at most half of the slots, because the next group is read into the other half while
/// one computes; otherwise those of one token, so that decoding has one group in a layer.
std::size_t group_size_for(std::size_t slots, std::size_t experts_per_token) {
  return std::clamp<std::size_t>(slots / 2, 1, std::max<std::size_t>(2, experts_per_token));
}

}  // namespace

struct ExpertCache::Slot {
  static constexpr std::size_t kNothing = ~std::size_t{0};

  Slot(std::uint64_t bytes, std::size_t pieces) : memory(bytes), piece_is_there(pieces) {}

  SlotMemory memory;
  std::size_t extent = kNothing;
  std::uint64_t load = 0;  ///< the higher, the later it was read
  bool locked = false;     ///< belongs to a group that computes or is about to: must not be evicted
  /// Pieces in memory, counted from the first without a gap; kFailed when no more will come.
  std::atomic<std::uint32_t> pieces_there{0};
  std::vector<bool> piece_is_there;  ///< also those behind a gap; guarded by the cache's mutex
};

std::uint64_t ExpertCache::slot_bytes(const Model::Impl& model) {
  std::uint64_t largest = 0;
  for (std::size_t l = 0; l < model.layers.size(); ++l) {
    if (!model.shape.streams_experts(l)) continue;
    for (const ExpertWeights& expert : model.layers[l].experts) {
      const ExpertExtent extent(expert, model.container.bytes().data(), kPieceBytes);
      largest = std::max(largest, extent.length_bytes());
    }
  }
  return largest;
}

ExpertCache::ExpertCache(const Model::Impl& model, std::size_t slot_count)
    : model_(model), file_(base::File::open_read(model.container.path())), direct_(file_.bypass_cache()) {
  // The file is opened again by its name, for O_DIRECT. Another file may have that name by now, and its
  // experts would be computed with the layout and the digests of the first one.
  if (base::identify(model.container.path()) != model.container.identity()) {
    throw base::Error(base::ErrorKind::io,
                      model.container.path().string() + ": was changed since it was opened");
  }
  for (std::size_t l = 0; l < model.layers.size(); ++l) {
    first_extent_.push_back(extents_.size());
    if (!model.shape.streams_experts(l)) continue;
    for (const ExpertWeights& expert : model.layers[l].experts)
      extents_.emplace_back(expert, model.container.bytes().data(), kPieceBytes);
  }
  values_.resize(extents_.size());
  used_.resize(extents_.size());
  slot_of_extent_.resize(extents_.size());
  const std::uint64_t bytes = slot_bytes(model);
  std::size_t pieces = 0;
  for (const ExpertExtent& extent : extents_) pieces = std::max(pieces, extent.pieces().size());
  for (std::size_t i = 0; i < slot_count; ++i) slots_.push_back(std::make_unique<Slot>(bytes, pieces));
  stats_.streams = true;
  stats_.expert_count = extents_.size();
  stats_.experts_held = slots_.size();
  stats_.expert_bytes = bytes;
  // When a thread cannot be started, the destructor does not run, but the threads that did start use the
  // members: they must end before the exception leaves.
  readers_.reserve(kReaders);
  try {
    for (std::size_t i = 0; i < kReaders; ++i) readers_.emplace_back([this] { read_in_background(); });
  } catch (...) {
    end_readers();
    throw;
  }
}

ExpertCache::~ExpertCache() { end_readers(); }

void ExpertCache::end_readers() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    queue_.clear();
  }
  work_.notify_all();
  for (std::thread& reader : readers_) reader.join();
}

void ExpertCache::begin_pass() {
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    // An exponential moving average of "was used in this pass".
    values_[i] = values_[i] * kDecay + (used_[i] ? 1.0f : 0.0f);
    used_[i] = false;
  }
}

/// An empty slot, or the unlocked one whose expert is worth least. Of equal values the expert that was read
/// last goes, as the oldest will be needed first when the layers come round again.
ExpertCache::Slot& ExpertCache::evict() {
  Slot* best = nullptr;
  const auto goes_before = [&](const Slot& a, const Slot& b) {
    if (b.extent == Slot::kNothing) return false;
    if (a.extent == Slot::kNothing) return true;
    if (values_[a.extent] != values_[b.extent]) return values_[a.extent] < values_[b.extent];
    return a.load > b.load;
  };
  for (const auto& slot : slots_)
    if (!slot->locked && (best == nullptr || goes_before(*slot, *best))) best = slot.get();
  INVARIANT(best != nullptr);  // two groups are locked at most, each of at most half the slots
  if (best->extent != Slot::kNothing) slot_of_extent_[best->extent] = nullptr;
  best->extent = Slot::kNothing;
  best->load = ++loads_;
  // Relaxed: nobody waits for this slot before enqueue() has taken the mutex, and workers start after that.
  best->pieces_there.store(0, std::memory_order_relaxed);
  {
    const std::scoped_lock lock(mutex_);
    std::fill(best->piece_is_there.begin(), best->piece_is_there.end(), false);
  }
  return *best;
}

/// Queues the pieces in the order in which they will be needed. Gate and up of all experts come first,
/// because the whole group computes its hidden values before any down projection. Down matrices are queued by
/// turns, since a task of down() goes through all experts of the group.
void ExpertCache::enqueue(std::span<Slot* const> missing) {
  if (missing.empty()) return;
  {
    const std::scoped_lock lock(mutex_);
    for (Slot* slot : missing)
      for (std::size_t piece = 0; piece < extents_[slot->extent].first_down_piece(); ++piece)
        queue_.push_back({slot, piece});
    bool more = true;
    for (std::size_t i = 0; more; ++i) {
      more = false;
      for (Slot* slot : missing) {
        const std::size_t piece = extents_[slot->extent].first_down_piece() + i;
        if (piece >= extents_[slot->extent].pieces().size()) continue;
        queue_.push_back({slot, piece});
        more = true;
      }
    }
  }
  work_.notify_all();
}

/// Gives up what is not read yet. Reads under way cannot be stopped, and write to their slots, so this waits
/// for them. Slots with incomplete experts become empty; complete ones stay cached.
void ExpertCache::cancel() {
  {
    std::unique_lock lock(mutex_);
    queue_.clear();
    idle_.wait(lock, [&] { return reads_under_way_ == 0; });
  }
  for (const auto& slot : slots_) {
    slot->locked = false;
    if (slot->extent == Slot::kNothing || slot->pieces_there.load() == extents_[slot->extent].pieces().size())
      continue;
    slot_of_extent_[slot->extent] = nullptr;
    slot->extent = Slot::kNothing;
  }
}

void ExpertCache::read_in_background() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return ending_ || !queue_.empty(); });
    if (ending_) return;
    const Read read = queue_.front();
    queue_.pop_front();
    // read_s is the time in which at least one read was under way: adding up both readers would count it
    // twice.
    if (reads_under_way_++ == 0) reading_since_ = Clock::now();
    lock.unlock();
    std::exception_ptr failure;
    try {
      read_piece(read);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (--reads_under_way_ == 0) stats_.read_s += seconds_since(reading_since_);
    if (failure) {
      fail(failure);
    } else if (!failure_) {
      finish(read);
    }
    if (reads_under_way_ == 0) idle_.notify_all();
  }
}

/// Publishes a piece. Call with the mutex held, and not after fail(): it would overwrite kFailed.
void ExpertCache::finish(const Read& read) {
  Slot& slot = *read.slot;
  const auto& piece = extents_[slot.extent].pieces()[read.piece];
  stats_.bytes_read += piece.end_bytes - piece.begin_bytes;
  slot.piece_is_there[read.piece] = true;
  std::uint32_t there = slot.pieces_there.load(std::memory_order_relaxed);
  if (there != read.piece) return;  // the other reader has the one before
  while (there < slot.piece_is_there.size() && slot.piece_is_there[there]) ++there;
  slot.pieces_there.store(there, std::memory_order_release);
  slot.pieces_there.notify_all();
}

/// Records the first failure and wakes everybody who waits for a piece. The cache reads nothing after that.
/// Call with the mutex held.
void ExpertCache::fail(std::exception_ptr failure) {
  if (!failure_) failure_ = std::move(failure);
  queue_.clear();
  for (const auto& slot : slots_) {
    slot->pieces_there.store(kFailed, std::memory_order_release);
    slot->pieces_there.notify_all();
  }
}

void ExpertCache::read_piece(const Read& read) {
  const ExpertExtent& extent = extents_[read.slot->extent];
  const auto& piece = extent.pieces()[read.piece];
  const std::uint64_t offset_bytes = extent.offset_bytes() + piece.begin_bytes;
  const base::MutableBytes out =
      read.slot->memory.bytes().subspan(piece.begin_bytes, piece.end_bytes - piece.begin_bytes);
  const std::string path = file_.path().string();
  std::size_t got = 0;
  try {
    got = file_.read_at(offset_bytes, out);
  } catch (const base::Error& error) {
    // When a file was cut between pages, the rest of the read begins between pages too, which O_DIRECT
    // refuses. The error below says more than that one.
    if (file_.size_bytes() >= offset_bytes + out.size()) {
      throw base::Error(base::ErrorKind::io,
                        std::string(error.what()) + ", from byte " + std::to_string(offset_bytes) + " on");
    }
  }
  if (got < out.size()) {
    throw base::Error(base::ErrorKind::io,
                      path + ": ends at byte " + std::to_string(file_.size_bytes()) + ", expected at least " +
                          std::to_string(offset_bytes + out.size()) + ": it was cut while it was in use");
  }
  // Without O_DIRECT the read has filled the page cache with a second copy, which takes memory from the
  // slots.
  if (!direct_) file_.drop_cache(offset_bytes, out.size());
}

void ExpertCache::require_working() const {
  const std::scoped_lock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

ResidencyStats ExpertCache::stats() const {
  const std::scoped_lock lock(mutex_);
  ResidencyStats stats = stats_;
  stats.stall_s = static_cast<double>(waited_ns_.load()) * 1e-9;
  return stats;
}

ExpertCache::Cursor::Cursor(ExpertCache& cache, std::size_t layer, std::span<const std::uint32_t> experts)
    : cache_(cache),
      first_extent_(cache.first_extent_[layer]),
      experts_(experts.begin(), experts.end()),
      group_size_(group_size_for(cache.slots_.size(), cache.model_.shape.layers[layer].experts_per_token)) {
  cache_.require_working();
  try {
    // Two groups are in progress from the start: one to compute with, one to be read meanwhile.
    start(0);
    start(1);
  } catch (...) {
    cache_.cancel();
    throw;
  }
}

ExpertCache::Cursor::~Cursor() { cache_.cancel(); }

std::span<const std::uint32_t> ExpertCache::Cursor::group(std::size_t index) const {
  const std::size_t first = std::min(index * group_size_, experts_.size());
  return std::span(experts_).subspan(first, std::min(group_size_, experts_.size() - first));
}

void ExpertCache::Cursor::start(std::size_t group_index) {
  std::vector<Slot*> missing;
  // Locks the experts that are in memory before any slot is taken: otherwise evict() could evict one of
  // this very group to make room for another.
  const auto experts = group(group_index);
  for (const std::uint32_t expert : experts) {
    cache_.used_[extent_index(expert)] = true;
    if (Slot* slot = cache_.slot_of_extent_[extent_index(expert)]; slot != nullptr) slot->locked = true;
  }
  for (const std::uint32_t expert : experts) {
    if (cache_.slot_of_extent_[extent_index(expert)] != nullptr) continue;
    Slot& slot = cache_.evict();
    slot.locked = true;
    slot.extent = extent_index(expert);
    cache_.slot_of_extent_[slot.extent] = &slot;
    missing.push_back(&slot);
  }
  {
    const std::scoped_lock lock(cache_.mutex_);
    cache_.stats_.misses += missing.size();
    cache_.stats_.hits += experts.size() - missing.size();
  }
  cache_.enqueue(missing);
}

void ExpertCache::Cursor::release(std::size_t group_index) {
  for (const std::uint32_t expert : group(group_index))
    cache_.slot_of_extent_[extent_index(expert)]->locked = false;
}

std::span<const std::uint32_t> ExpertCache::Cursor::next() {
  if (next_group_ > 0) {
    // The order matters: the slots of the group that is done are the room for the group after the next.
    release(next_group_ - 1);
    start(next_group_ + 1);
  }
  const auto experts = group(next_group_++);
  order_.assign(experts.begin(), experts.end());
  // Experts in memory go first, so workers have something to compute while the others are read. Stable, since
  // the rest must stay in the order in which it is read. std::ranges::stable_partition does not compile with
  // clang 14.
  std::stable_partition(order_.begin(), order_.end(), [&](std::uint32_t expert) {
    const Slot& slot = *cache_.slot_of_extent_[extent_index(expert)];
    return slot.pieces_there.load() == cache_.extents_[slot.extent].pieces().size();
  });
  return experts;
}

Matrix ExpertCache::Cursor::matrix(std::uint32_t expert, ExpertMatrix matrix) const {
  const Slot& slot = *cache_.slot_of_extent_[extent_index(expert)];
  return cache_.extents_[slot.extent].matrix_in(slot.memory.bytes().data(), matrix);
}

base::Bytes ExpertCache::Cursor::bytes(std::uint32_t expert) const {
  const Slot& slot = *cache_.slot_of_extent_[extent_index(expert)];
  return slot.memory.bytes().first(cache_.extents_[slot.extent].length_bytes());
}

void ExpertCache::Cursor::await(std::uint32_t expert, ExpertMatrix matrix, std::size_t panels_end) const {
  const Slot& slot = *cache_.slot_of_extent_[extent_index(expert)];
  await_pieces(slot, cache_.extents_[slot.extent].pieces_for(matrix, panels_end));
}

void ExpertCache::Cursor::await_all(std::uint32_t expert) const {
  const Slot& slot = *cache_.slot_of_extent_[extent_index(expert)];
  await_pieces(slot, cache_.extents_[slot.extent].pieces().size());
}

void ExpertCache::Cursor::await_pieces(const Slot& slot, std::size_t count) const {
  std::uint32_t there = slot.pieces_there.load(std::memory_order_acquire);
  if (there >= count && there != kFailed) return;  // the usual case: no clock is read
  const auto start = Clock::now();
  while (there < count) {
    slot.pieces_there.wait(there);
    there = slot.pieces_there.load(std::memory_order_acquire);
  }
  const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  cache_.waited_ns_.fetch_add(static_cast<std::uint64_t>(waited));
  if (there == kFailed) cache_.require_working();
}

}  // namespace sluice::runtime
