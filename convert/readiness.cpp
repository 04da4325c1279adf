#include "convert/readiness.h"

#include <sys/stat.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/part_file.h"
#include "base/text.h"
#include "format/hub/sections.h"
#include "text/text.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kStatBlockBytes = 512;  // stat(2): the unit of st_blocks
// A tensor's entry in the directory and in the quality report has a few hundred bytes.
constexpr std::uint64_t kDirectoryEntryBytes = 1024;

/// The bytes that the part file of an earlier run occupies.
std::uint64_t part_bytes(const fs::path& output) {
  struct stat info {};
  const fs::path part = base::part_path(output);
  if (::lstat(part.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
  return static_cast<std::uint64_t>(info.st_blocks) * kStatBlockBytes;
}

}  // namespace

std::uint64_t require_usable_tokenizer(const format::ReleasedModel& release) {
  const std::string& subject = release.tokenizer_source;
  const auto tokenizer = text::open_tokenizer(format::tokenizer_parts(release), subject);
  const std::uint64_t rows = release.description.vocabulary;
  if (tokenizer->size() > rows) {
    base::throw_malformed(subject, "has " + std::to_string(tokenizer->size()) +
                                       " tokens, but the model's embedding has " + std::to_string(rows) +
                                       " rows (vocab_size): the two are not of one model");
  }
  return rows - tokenizer->size();
}

std::string chat_template_problem(const format::ReleasedModel& release) {
  if (release.chat.chat_template.empty()) return {};
  try {
    const text::ChatTemplate parsed(release.chat.chat_template, "its chat template");
    return {};
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    return error.what();
  }
}

std::uint64_t container_bytes(const format::ReleasedModel& release, std::span<const TensorJob> jobs) {
  std::uint64_t bytes = format::kContainerHeaderBytes + format::kContainerFooterBytes;
  for (const auto& section : format::released_sections(release)) bytes += section.content.size();
  for (const TensorJob& job : jobs) {
    const bool large = job.expert_bytes > format::kLargeExpertBytes;
    bytes =
        base::align_up(bytes, large ? format::kLargeExpertAlignmentBytes : format::kTensorAlignmentBytes) +
        format::storage_bytes(job.tensor->storage, job.tensor->target.shape);
  }
  return bytes + jobs.size() * kDirectoryEntryBytes;
}

std::optional<std::uint64_t> require_space(const fs::path& output, std::uint64_t needed_bytes) {
  // A folder that is made later lies on the file system of the nearest one that exists.
  std::error_code unknown;
  fs::path folder = fs::absolute(output).parent_path();
  while (!fs::exists(folder, unknown) && folder.has_relative_path()) folder = folder.parent_path();
  const fs::space_info space = fs::space(folder, unknown);
  // Creating the file says better what is wrong with the folder.
  if (unknown) return std::nullopt;
  const std::uint64_t there_bytes = std::min(part_bytes(output), needed_bytes);
  const std::uint64_t missing_bytes = needed_bytes - there_bytes;
  if (missing_bytes <= space.available) return space.available;
  throw base::Error(base::ErrorKind::no_space,
                    output.string() + ": the conversion writes " + base::to_human_bytes(missing_bytes) +
                        " (" + std::to_string(missing_bytes) + " bytes), but its file system has " +
                        base::to_human_bytes(space.available) + " (" + std::to_string(space.available) +
                        " bytes) free");
}

}  // namespace sluice::convert
