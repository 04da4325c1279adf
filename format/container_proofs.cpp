// Verification of a container's payload on first use.
//
// Callers (the threads that are about to use tensors) ask proven() and call prove() for the rest; hashing
// runs on the pool that they pass in. Flags only go from false to true, so two callers may verify the same
// part at the same time: the work is done twice, the part is counted once. The record on disk belongs to one
// state of one file, and file systems stamp changes in ticks: settle() waits for the end of the tick of the
// last change, because another change within the same tick would leave the stamps as they are.

#include "format/container_proofs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/stopwatch.h"
#include "base/wide_sha.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kRecordBytesMax = 1u << 20;
constexpr std::size_t kLeavesPerTask = 64;  // 1 MiB

// The clocks that stamp files move in ticks: of at most 10 ms on Linux's own file systems, of 2 s on those
// that keep whole seconds. A second write within the same tick does not change the stamp.
constexpr std::int64_t kTickNs = 20'000'000;
constexpr std::int64_t kCoarseTickNs = 2'000'000'000;
constexpr std::int64_t kSecondNs = 1'000'000'000;

/// Time since the file's last change, by the later of its two stamps. Negative for a stamp in the future.
std::int64_t age_ns(const base::FileIdentity& file) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() -
         std::max(file.modified_ns, file.changed_ns);
}

/// Waits until any later change of the file would change its stamps. False when that would take too long.
bool settle(const base::FileIdentity& file) {
  // Whole seconds in both stamps are a sign of a file system with coarse stamps; a mistake only costs the
  // record.
  const bool coarse = file.modified_ns % kSecondNs == 0 && file.changed_ns % kSecondNs == 0;
  const std::int64_t missing_ns = (coarse ? kCoarseTickNs : kTickNs) - age_ns(file);
  if (missing_ns > kTickNs) return false;  // for a stamp in the future, too
  if (missing_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(missing_ns));
  return true;
}

/// Consecutive leaves of one tensor, which one worker hashes.
struct LeafTask {
  base::Bytes tensor;
  std::size_t first = 0;  ///< index of the first leaf in the tensor
  std::span<base::Sha256> leaves;
};

/// Hashes as many leaves at once as the wide SHA-256 takes messages. The last leaf of a tensor may be short.
void hash_leaves(const LeafTask& task) {
  std::array<base::Bytes, base::kWideShaMessages> blocks;
  for (std::size_t done = 0; done < task.leaves.size();) {
    const std::size_t count = std::min(base::kWideShaMessages, task.leaves.size() - done);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t offset = (task.first + done + i) * base::kMerkleBlockBytes;
      blocks[i] = task.tensor.subspan(offset, std::min(base::kMerkleBlockBytes, task.tensor.size() - offset));
    }
    base::hash_each(std::span(blocks).first(count), task.leaves.subspan(done, count));
    done += count;
  }
}

}  // namespace

ContainerProofs::ContainerProofs(const ContainerReader& container, Options options)
    : container_(container),
      options_(std::move(options)),
      subject_{container.identity(), container.footer().root, container.footer().directory_sha256},
      part_by_tensor_(container.tensors().size()) {
  const auto& tensors = container.tensors();
  auto expert = container.experts().begin();
  for (std::size_t i = 0; i < tensors.size();) {
    // Tensors and experts are both in payload order, so one pass over both finds the parts.
    PartTensors part{.first_tensor = i};
    if (expert != container.experts().end() && tensors[i].offset_bytes == expert->offset_bytes) {
      const std::uint64_t end_bytes = expert->offset_bytes + expert->length_bytes;
      while (i + part.tensor_count < tensors.size() &&
             tensors[i + part.tensor_count].offset_bytes < end_bytes)
        ++part.tensor_count;
      part.expert = true;
      ++expert;
    }
    for (std::size_t tensor = i; tensor < i + part.tensor_count; ++tensor)
      part_by_tensor_[tensor] = parts_.size();
    parts_.push_back(part);
    i += part.tensor_count;
  }
  proven_ = std::vector<std::atomic<bool>>(parts_.size());
  stats_.expert_count = container.experts().size();
  stats_.tensor_count = parts_.size() - stats_.expert_count;
  if (options_.record_paths.empty()) return;
  if (!settle(subject_.file)) {
    options_.record_paths.clear();
  } else if (options_.believe_record) {
    load_record();
  }
}

ContainerProofs::~ContainerProofs() { save(); }

// A record of another file or of another state of this file is as good as none. It is never an error:
// verification simply starts from nothing.
std::optional<ProofRecord> ContainerProofs::read_record(const std::filesystem::path& path) const {
  try {
    const auto file = base::File::open_read(path);
    // Another user's record says what that user likes.
    if (!base::only_this_user_writes(file)) return std::nullopt;
    std::vector<std::byte> bytes(
        static_cast<std::size_t>(std::min<std::uint64_t>(file.size_bytes(), kRecordBytesMax)));
    file.read_exact_at(0, bytes);
    auto record = decode_proof_record(bytes);
    if (record && record->subject == subject_ && record->proven.size() == parts_.size()) return record;
  } catch (const base::Error&) {  // the file does not exist or cannot be read
  }
  return std::nullopt;
}

void ContainerProofs::load_record() {
  for (const auto& path : options_.record_paths) {
    const auto record = read_record(path);
    if (!record) continue;
    for (Part part = 0; part < parts_.size(); ++part) {
      if (!record->proven[part]) continue;
      proven_[part].store(true, std::memory_order_relaxed);
      ++(parts_[part].expert ? stats_.experts_known : stats_.tensors_known);
    }
    stats_.record = path;
    return;
  }
}

// Leaves out proven and repeated parts first, so that one call hashes no part twice.
void ContainerProofs::prove(std::span<const Part> parts, base::WorkerPool& pool) {
  std::vector<Part> open;
  for (const Part part : parts)
    if (!proven(part) && std::ranges::find(open, part) == open.end()) open.push_back(part);
  if (open.empty()) return;
  prove_open(
      open, [&](const ContainerTensor& tensor) { return container_.bytes(tensor); }, pool);
}

void ContainerProofs::prove(Part part, base::Bytes bytes, base::WorkerPool& pool) {
  if (proven(part)) return;
  const std::uint64_t begin = container_.tensors()[parts_[part].first_tensor].offset_bytes;
  const auto bytes_of = [&](const ContainerTensor& tensor) {
    return bytes.subspan(tensor.offset_bytes - begin, tensor.length_bytes);
  };
  prove_open(std::span(&part, 1), bytes_of, pool);
}

void ContainerProofs::prove_open(std::span<const Part> open,
                                 const std::function<base::Bytes(const ContainerTensor&)>& bytes_of,
                                 base::WorkerPool& pool) {
  const base::Stopwatch stopwatch;
  struct Job {
    Part part;
    const ContainerTensor* tensor;
    base::Bytes bytes;
    std::vector<base::Sha256> leaves;
  };
  std::vector<Job> jobs;
  for (const Part part : open) {
    for (std::size_t i = 0; i < parts_[part].tensor_count; ++i) {
      const ContainerTensor& tensor = container_.tensors()[parts_[part].first_tensor + i];
      const auto leaf_count = base::divide_up(tensor.length_bytes, base::kMerkleBlockBytes);
      jobs.push_back(
          {part, &tensor, bytes_of(tensor), std::vector<base::Sha256>(static_cast<std::size_t>(leaf_count))});
    }
  }
  std::vector<LeafTask> tasks;
  for (Job& job : jobs) {
    for (std::size_t first = 0; first < job.leaves.size(); first += kLeavesPerTask) {
      const std::size_t count = std::min(kLeavesPerTask, job.leaves.size() - first);
      tasks.push_back({job.bytes, first, std::span(job.leaves).subspan(first, count)});
    }
  }
  // Leaves of all tensors first, in tasks of equal size, then the trees: a large tensor does not keep one
  // worker busy while the others wait.
  pool.run(tasks.size(), [&](std::size_t task, unsigned) { hash_leaves(tasks[task]); });
  pool.run(jobs.size(), [&](std::size_t job, unsigned) {
    check_tensor(*jobs[job].tensor, jobs[job].bytes, jobs[job].leaves);
  });

  for (const Part part : open) {
    std::uint64_t bytes = 0;
    for (const Job& job : jobs)
      if (job.part == part) bytes += job.tensor->length_bytes;
    mark(part, bytes);
  }
  const std::scoped_lock lock(mutex_);
  stats_.seconds += stopwatch.seconds();
}

void ContainerProofs::check_tensor(const ContainerTensor& tensor, base::Bytes bytes,
                                   std::span<const base::Sha256> leaves) const {
  // Pages that could not be read look like zeros. This is reported first, so that the content of the file is
  // not blamed for it.
  container_.require_whole();
  if ((leaves.empty() ? base::Sha256{} : base::merkle_root(leaves)) != tensor.digest) {
    std::string place;
    // The subtraction wraps around for experts behind the tensor, so one comparison covers both ends of the
    // extent.
    for (const ContainerExpert& expert : container_.experts()) {
      if (tensor.offset_bytes - expert.offset_bytes >= expert.length_bytes) continue;
      place = "layer " + std::to_string(expert.layer) + ", expert " + std::to_string(expert.expert) + ": ";
    }
    throw base::Error(base::ErrorKind::verification, container_.path().string() + ": " + place + "tensor '" +
                                                         tensor.name + "' does not match its digest");
  }
  if (options_.check) options_.check(tensor, bytes);
}

void ContainerProofs::mark(Part part, std::uint64_t bytes) {
  // Two callers may have verified the part at the same time: it counts once, its bytes twice.
  const bool first = !proven_[part].exchange(true, std::memory_order_relaxed);
  const std::scoped_lock lock(mutex_);
  stats_.bytes += bytes;
  if (!first) return;
  ++(parts_[part].expert ? stats_.experts_proven : stats_.tensors_proven);
  dirty_ = true;
}

ProofStats ContainerProofs::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

void ContainerProofs::save() noexcept {
  try {
    const std::scoped_lock lock(mutex_);
    // A file that has changed since it was opened has nothing to do with what was verified.
    if (!dirty_ || base::identify(container_.path()) != subject_.file) return;
    ProofRecord record{subject_, std::vector<bool>(parts_.size())};
    for (Part part = 0; part < parts_.size(); ++part) record.proven[part] = proven(part);
    for (const auto& path : options_.record_paths) {
      try {
        base::make_directories(path.parent_path());
        // Another process may have saved other parts meanwhile.
        if (const auto other = read_record(path)) {
          for (Part part = 0; part < parts_.size(); ++part)
            record.proven[part] = record.proven[part] || other->proven[part];
        }
        base::AtomicFile file(path);
        base::deny_others_writing(file.file());
        file.file().write_at(0, encode_proof_record(record));
        file.place();
        stats_.record = path;
        dirty_ = false;
        return;
      } catch (const base::Error&) {  // read-only or full: try the next path
      }
    }
  } catch (...) {  // out of memory: nothing is saved
  }
}

}  // namespace sluice::format
