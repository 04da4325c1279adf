// A .sluice file against the digests that it carries. The payload is read, not mapped: the memory stays
// within its budget, and a failing disk is an error instead of a signal.

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/parallel.h"
#include "format/container_examination.h"
#include "verify/ranges.h"
#include "verify/tensor_names.h"
#include "verify/verify.h"

namespace sluice::verify {
namespace {

constexpr std::uint64_t kBufferBytesMax = 4u << 20;

/// A part of the payload that is judged as one. Neither tensor nor section: padding, which must be zero.
struct Part {
  Range range;
  const format::ContainerTensor* tensor = nullptr;
  const format::ContainerSection* section = nullptr;
};

/// All bytes from the header to the directory, in order.
std::vector<Part> parts_of(const format::ContainerReader& container) {
  std::vector<Part> named;
  for (const auto& section : container.sections())
    named.push_back({{section.offset_bytes, section.length_bytes}, nullptr, &section});
  for (const auto& tensor : container.tensors())
    named.push_back({{tensor.offset_bytes, tensor.length_bytes}, &tensor, nullptr});
  std::ranges::sort(named, {}, [](const Part& part) { return part.range.offset_bytes; });

  std::vector<Part> parts;
  std::uint64_t end_bytes = format::kContainerHeaderBytes;
  const auto add_padding = [&](std::uint64_t to_bytes) {
    if (to_bytes > end_bytes) parts.push_back({{end_bytes, to_bytes - end_bytes}, nullptr, nullptr});
  };
  for (const Part& part : named) {
    add_padding(part.range.offset_bytes);
    parts.push_back(part);
    end_bytes = part.range.end_bytes();
  }
  add_padding(container.footer().directory_offset_bytes);
  return parts;
}

class PayloadReader {
 public:
  PayloadReader(const base::File& file, std::uint64_t buffer_bytes, base::Progress& progress,
                const std::stop_token& stop)
      : file_(file), buffer_(static_cast<std::size_t>(buffer_bytes)), progress_(progress), stop_(stop) {}

  [[nodiscard]] bool proves(const Part& part) {
    if (part.tensor != nullptr) {
      base::LeafHasher hasher;
      read(part.range, [&](base::Bytes bytes) { hasher.update(bytes); });
      const auto leaves = hasher.final();
      return (leaves.empty() ? base::Sha256{} : base::merkle_root(leaves)) == part.tensor->digest;
    }
    if (part.section != nullptr) {
      base::Hasher<base::Sha256> hasher;
      read(part.range, [&](base::Bytes bytes) { hasher.update(bytes); });
      return hasher.final() == part.section->sha256;
    }
    bool zero = true;
    read(part.range, [&](base::Bytes bytes) { zero = zero && base::all_zero(bytes); });
    return zero;
  }

 private:
  template <typename Consume>
  void read(const Range& range, Consume consume) {
    for (std::uint64_t offset_bytes = range.offset_bytes; offset_bytes < range.end_bytes();) {
      if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
      const auto count = std::min<std::uint64_t>(buffer_.size(), range.end_bytes() - offset_bytes);
      const auto bytes = base::MutableBytes(buffer_).first(static_cast<std::size_t>(count));
      file_.read_exact_at(offset_bytes, bytes);
      consume(base::Bytes(bytes));
      file_.drop_cache(offset_bytes, count);
      progress_.advance(count);
      offset_bytes += count;
    }
  }

  const base::File& file_;
  std::vector<std::byte> buffer_;
  base::Progress& progress_;
  const std::stop_token& stop_;
};

std::vector<char> judge(const base::File& file, const std::vector<Part>& parts, const Options& options,
                        base::Progress& progress, const std::stop_token& stop) {
  base::WorkerPool pool(std::max(1u, options.thread_count));
  const std::uint64_t share_bytes = options.memory_bytes / pool.thread_count();
  const std::uint64_t buffer_bytes =
      std::clamp<std::uint64_t>(share_bytes, base::kMerkleBlockBytes, kBufferBytesMax);
  std::vector<PayloadReader> readers;
  for (unsigned i = 0; i < pool.thread_count(); ++i) readers.emplace_back(file, buffer_bytes, progress, stop);
  std::vector<char> proven(parts.size());
  pool.run(parts.size(), [&](std::size_t part, unsigned worker) {
    proven[part] = readers[worker].proves(parts[part]) ? 1 : 0;
  });
  return proven;
}

std::string describe(const Part& part) {
  if (part.tensor != nullptr) return "tensor '" + part.tensor->name + "' does not have its digest";
  if (part.section != nullptr) return "section '" + part.section->name + "' does not have its SHA-256";
  return "the padding at byte " + std::to_string(part.range.offset_bytes) + " is not zero";
}

DamagedRange to_damage(const format::ContainerReader& container, const Part& part) {
  DamagedRange range{part.range.offset_bytes, part.range.length_bytes};
  if (part.tensor != nullptr) {
    range.tensors.push_back(touched(container, *part.tensor));
  } else {
    range.parts.push_back(part.section != nullptr ? "section " + part.section->name : "padding");
  }
  return range;
}

/// What is wrong, in the order of the file, and a sentence about each.
struct Findings {
  std::vector<DamagedRange> damaged;
  std::vector<std::string> problems;

  void add(DamagedRange range, std::string problem) {
    damaged.push_back(std::move(range));
    problems.push_back(std::move(problem));
  }

  [[nodiscard]] std::string problem() const {
    if (problems.empty()) return {};
    const std::size_t more = problems.size() - 1;
    std::string text = problems.front();
    if (more > 0)
      text += "; " + std::to_string(more) + (more == 1 ? " more part is" : " more parts are") + " wrong";
    return text;
  }
};

void add_fault(const format::ContainerFault& fault, Findings& findings) {
  std::string problem = "the " + fault.part + " is damaged";
  if (fault.part == "directory") problem += ", which says where the tensors lie: they could not be checked";
  findings.add({fault.offset_bytes, fault.length_bytes, {}, {fault.part}}, std::move(problem));
}

}  // namespace

Report verify_container(const std::filesystem::path& file, const Options& options, base::Progress& progress,
                        const std::stop_token& stop) {
  // The examination proves header, directory and footer: their digests, and that nothing in them contradicts
  // itself. The experts' digests and the root follow there from those of the tensors, which are left to
  // prove.
  const auto examined = format::examine_container(file);
  const base::File payload = base::File::open_read(file);
  Findings findings;
  for (const auto& fault : examined.faults)
    if (fault.part == "header") add_fault(fault, findings);
  if (examined.reader) {
    const format::ContainerReader& container = *examined.reader;
    const std::vector<Part> parts = parts_of(container);
    progress.begin("verifying", container.footer().directory_offset_bytes - format::kContainerHeaderBytes);
    const std::vector<char> proven = judge(payload, parts, options, progress, stop);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (proven[i] == 0) findings.add(to_damage(container, parts[i]), describe(parts[i]));
  }
  for (const auto& fault : examined.faults)
    if (fault.part != "header") add_fault(fault, findings);

  FileReport report;
  report.path = file.filename().string();
  report.bytes = payload.size_bytes();
  report.problem = findings.problem();
  report.damaged = std::move(findings.damaged);
  report.state = report.damaged.empty() ? FileState::ok : FileState::damaged;

  Report result;
  result.ok = report.damaged.empty();
  result.bytes = examined.reader ? report.bytes : format::kContainerHeaderBytes;
  for (const DamagedRange& range : report.damaged) result.damaged_bytes += range.length_bytes;
  result.proven_by = {"container"};
  if (examined.reader) result.root_sha256 = base::to_hex(examined.reader->footer().root);
  result.files.push_back(std::move(report));
  return result;
}

}  // namespace sluice::verify
