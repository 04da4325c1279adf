// Verifies a .sluice file against the digests that it holds. format::check_container() verifies header,
// directory and footer; here the payload follows, which the directory cuts into sections, tensors and
// padding. base::compute_digests() reads all parts with several threads; everything else runs in the caller's
// thread.

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/multi_digest.h"
#include "format/container_check.h"
#include "verify/tensor_names.h"
#include "verify/verify.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using base::ByteRange;

// Nodes over 2^10 leaves of 16 KiB cover 16 MiB. With leaves alone, the digests of a tensor would take 1/512
// of its size in memory.
constexpr unsigned kNodeHeight = 10;

/// A part of the payload with one digest: a tensor, a section, or (when both are null) padding, which must be
/// zero.
struct PayloadPart {
  ByteRange range;
  const format::ContainerTensor* tensor = nullptr;
  const format::ContainerSection* section = nullptr;
};

/// The parts from the header to the directory, in order and without gaps.
std::vector<PayloadPart> parts_of(const format::ContainerReader& container) {
  std::vector<PayloadPart> named;
  for (const auto& section : container.sections())
    named.push_back({{section.offset_bytes, section.length_bytes}, nullptr, &section});
  for (const auto& tensor : container.tensors())
    named.push_back({{tensor.offset_bytes, tensor.length_bytes}, &tensor, nullptr});
  std::ranges::sort(named, {}, [](const PayloadPart& part) { return part.range.offset_bytes; });

  std::vector<PayloadPart> parts;
  std::uint64_t end_bytes = format::kContainerHeaderBytes;
  const auto add_padding = [&](std::uint64_t to_bytes) {
    if (to_bytes > end_bytes) parts.push_back({{end_bytes, to_bytes - end_bytes}, nullptr, nullptr});
  };
  for (const PayloadPart& part : named) {
    add_padding(part.range.offset_bytes);
    parts.push_back(part);
    end_bytes = part.range.end_bytes();
  }
  add_padding(container.footer().directory_offset_bytes);
  return parts;
}

/// Computes the digests of the parts, each of which is a range of the file.
std::vector<base::FileDigests> compute(const fs::path& file, const std::vector<const PayloadPart*>& parts,
                                       const base::DigestWants& wants, const Options& options,
                                       base::Progress& progress, const std::stop_token& stop) {
  std::vector<base::DigestInput> inputs;
  inputs.reserve(parts.size());
  for (const PayloadPart* part : parts)
    inputs.push_back({file, part->range.length_bytes, false, part->range.offset_bytes});
  base::DigestOptions how;
  how.thread_count = std::max(1u, options.thread_count);
  how.memory_bytes = options.memory_bytes;
  how.direct = options.direct;
  auto digests = base::compute_digests(inputs, wants, how, progress, stop).files;
  // Damage is a finding; a disk that cannot be read is an error, because the bytes behind it are not known.
  for (const base::FileDigests& found : digests) {
    const bool unreadable =
        found.state == base::ReadState::unreadable || found.state == base::ReadState::missing;
    if (unreadable) throw base::Error(base::ErrorKind::io, found.problem);
  }
  return digests;
}

base::Sha256 root_of(const base::FileDigests& digests) {
  if (!digests.layer.empty()) return base::merkle_root(digests.layer, kNodeHeight);
  return digests.leaves.empty() ? base::Sha256{} : base::merkle_root(digests.leaves);
}

/// Returns the digest that padding must have. Comparing digests lets padding go through the same parallel
/// read as tensors; bytes that no digest covers could carry something hidden.
base::Sha256 root_of_zeros(std::uint64_t length_bytes) {
  static const std::vector<std::byte> block(base::kMerkleBlockBytes);  // zeros
  std::vector<base::Sha256> leaves(length_bytes / block.size(), base::hash<base::Sha256>(block));
  if (const std::size_t rest = length_bytes % block.size(); rest > 0)
    leaves.push_back(base::hash<base::Sha256>(base::Bytes(block).first(rest)));
  return base::merkle_root(leaves);
}

/// `changed`: the file was written while it was read, so nothing can be said about the part.
enum class MatchResult : std::uint8_t { match, mismatch, changed };

/// One result for each part. Tensors and padding have tree digests, which all threads compute together;
/// sections, which are small, have a SHA-256.
std::vector<MatchResult> compare_parts(const fs::path& file, const std::vector<PayloadPart>& parts,
                                       const Options& options, base::Progress& progress,
                                       const std::stop_token& stop) {
  std::vector<MatchResult> results(parts.size());
  // In two calls, since one would compute tree digests and SHA-256 for every part.
  for (const bool sections : {false, true}) {
    std::vector<const PayloadPart*> chosen;
    for (const PayloadPart& part : parts)
      if ((part.section != nullptr) == sections) chosen.push_back(&part);
    base::DigestWants wants;
    wants.sha256 = sections;
    wants.leaves = !sections;
    wants.blocks_per_node = std::uint64_t{1} << kNodeHeight;
    const auto digests = compute(file, chosen, wants, options, progress, stop);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const PayloadPart& part = *chosen[i];
      // `chosen` points into `parts`, which gives the index of the part.
      MatchResult& result = results[static_cast<std::size_t>(chosen[i] - parts.data())];
      if (digests[i].state != base::ReadState::complete) {
        result = MatchResult::changed;
      } else if (sections) {
        result = digests[i].sha256 == part.section->sha256 ? MatchResult::match : MatchResult::mismatch;
      } else {
        const auto expected =
            part.tensor != nullptr ? part.tensor->digest : root_of_zeros(part.range.length_bytes);
        result = root_of(digests[i]) == expected ? MatchResult::match : MatchResult::mismatch;
      }
    }
  }
  return results;
}

std::string describe(const PayloadPart& part) {
  if (part.tensor != nullptr) return "tensor '" + part.tensor->name + "' does not have its digest";
  if (part.section != nullptr) return "section '" + part.section->name + "' does not have its SHA-256";
  return "the padding at byte " + std::to_string(part.range.offset_bytes) + " is not zero";
}

/// The damage is always the whole part, because a container stores one digest for each tensor and no leaves.
DamagedRange to_damage(const format::ContainerReader& container, const PayloadPart& part) {
  DamagedRange damage{.range = part.range};
  if (part.tensor != nullptr) {
    damage.tensors.push_back(touched(container, *part.tensor));
  } else {
    damage.parts.push_back(part.section != nullptr ? "section " + part.section->name : "padding");
  }
  return damage;
}

/// The damaged ranges in file order, and one sentence about each.
struct ContainerFindings {
  std::vector<DamagedRange> damaged;
  std::vector<std::string> problems;

  void add(DamagedRange damage, std::string problem) {
    damaged.push_back(std::move(damage));
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

void add_fault(const format::ContainerFault& fault, ContainerFindings& findings) {
  std::string problem = "the " + fault.part + " is damaged";
  if (fault.part == "directory") problem += ", which says where the tensors lie: they could not be checked";
  findings.add({{fault.offset_bytes, fault.length_bytes}, {}, {fault.part}}, std::move(problem));
}

}  // namespace

Report verify_container(const std::filesystem::path& file, const Options& options, base::Progress& progress,
                        const std::stop_token& stop) {
  // The check verifies the digests of header, directory and footer and looks for contradictions in them. It
  // derives the digests of the experts and the root from those of the tensors; so the tensors' own digests
  // are what remains.
  const auto checked = format::check_container(file);
  ContainerFindings findings;
  bool changed = false;
  // Faults and payload are added in file order: header, payload, then directory and footer.
  for (const auto& fault : checked.faults)
    if (fault.part == "header") add_fault(fault, findings);
  if (checked.reader) {
    const format::ContainerReader& container = *checked.reader;
    const std::vector<PayloadPart> parts = parts_of(container);
    progress.begin("verifying", container.footer().directory_offset_bytes - format::kContainerHeaderBytes);
    const std::vector<MatchResult> results = compare_parts(file, parts, options, progress, stop);
    changed = std::ranges::find(results, MatchResult::changed) != results.end();
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (results[i] != MatchResult::match) findings.add(to_damage(container, parts[i]), describe(parts[i]));
  }
  for (const auto& fault : checked.faults)
    if (fault.part != "header") add_fault(fault, findings);

  FileReport report;
  report.path = file.filename().string();
  report.bytes = base::File::open_read(file).size_bytes();
  // A change comes before damage: parts that differ because somebody is writing the file are not damaged, and
  // a repair of them would spoil the other program's work.
  if (changed) {
    report.state = FileState::changed;
    report.problem = "changed while it was read";
  } else if (!findings.damaged.empty()) {
    report.state = FileState::damaged;
    report.problem = findings.problem();
    report.damaged = std::move(findings.damaged);
  }

  Report result;
  result.ok = report.state == FileState::ok;
  // Without a directory nothing of the payload could be compared.
  result.bytes = checked.reader ? report.bytes : format::kContainerHeaderBytes;
  for (const DamagedRange& damage : report.damaged) result.damaged_bytes += damage.range.length_bytes;
  result.proven_by = {"container"};
  if (checked.reader) {
    result.root_sha256 = base::to_hex(checked.reader->root());
    result.tensors_sha256 = base::to_hex(checked.reader->tensors_sha256());
    // A file that was cut while its sections were looked at would seem damaged.
    checked.reader->require_whole();
  }
  result.files.push_back(std::move(report));
  return result;
}

}  // namespace sluice::verify
