// The life of an input during compute_digests(): the first acquire() opens it, the last release() compares
// its stamp with that of the opening, and only then are its digests final. An input of which some bytes could
// not be read gets no digests at all, only its state: half of the leaves of a file would look like damage in
// the other half.

#include "base/digest_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/merkle.h"

namespace sluice::base {

OpenInput::OpenInput(File opened, const DigestInput& input)
    : file(std::move(opened)), stamp(stamp_of(file)), begin_bytes(input.range_offset_bytes.value_or(0)) {
  found_bytes = stamp.size_bytes - std::min(begin_bytes, stamp.size_bytes);
  if (input.range_offset_bytes) found_bytes = std::min(found_bytes, input.length_bytes);
  known_bytes = std::min(found_bytes, input.length_bytes);
}

DigestFiles::DigestFiles(std::span<const DigestInput> inputs, const DigestWants& wants,
                         const DigestOptions& options, const DigestPlan& plan, Progress& progress)
    : inputs_(inputs),
      wants_(wants),
      options_(options),
      progress_(progress),
      entries_(inputs.size()),
      digests_(inputs.size()) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A unit counts once for each input that it has a segment of: that many times the input is acquired and
    // released.
    entries_[i].units_left = plan.units_of_input[i];
    if (inputs[i].skip) entries_[i].failure = digests_[i].state = ReadState::missing;
    if (inputs[i].path.empty()) digests_[i].found_bytes = inputs[i].length_bytes;
  }
}

const OpenInput* DigestFiles::acquire(std::size_t index) {
  if (inputs_[index].skip) return nullptr;
  Entry& entry = entries_[index];
  const std::scoped_lock lock(entry.mutex);
  // Tried once per input: a file that cannot be opened is one problem, however many units have a part of it.
  // The mutex makes other threads wait until the first one has opened the file.
  if (!std::exchange(entry.open_tried, true)) open(index, entry);
  return entry.open ? &*entry.open : nullptr;
}

void DigestFiles::open(std::size_t index, Entry& entry) {
  const DigestInput& input = inputs_[index];
  try {
    OpenInput& opened = entry.open.emplace(File::open_read(input.path), input);
    const bool direct = options_.direct && opened.file.bypass_cache();
    if (options_.direct && !direct && !warned_.exchange(true))
      progress_.warn(input.path.string() +
                     ": its file system cannot read past the page cache; reading through it");
    if (!direct)
      opened.cached.emplace(opened.file, opened.begin_bytes + opened.known_bytes,
                            disk_queues_.queue_for(opened.file));
  } catch (const Error& error) {
    entry.open.reset();
    std::error_code ignored;
    const auto status = std::filesystem::symlink_status(input.path, ignored);
    // Only a file whose name does not exist is missing; a link to nowhere exists and cannot be read.
    const bool none = status.type() == std::filesystem::file_type::not_found;
    fail(entry, none ? ReadState::missing : ReadState::unreadable, error.what());
    return;
  }
  FileDigests& digests = digests_[index];
  digests.found_bytes = entry.open->found_bytes;
  if (!wants_.leaves) return;
  // Sized here, by the first thread that needs the file, so that all threads can write their parts without a
  // lock.
  const std::uint64_t leaves = divide_up(entry.open->known_bytes, kMerkleBlockBytes);
  if (has_layer(input, wants_)) {
    digests.layer.resize(divide_up(leaves, wants_.blocks_per_node));
  } else {
    digests.leaves.resize(leaves);
  }
}

void DigestFiles::release(std::size_t index) {
  Entry& entry = entries_[index];
  const std::scoped_lock lock(entry.mutex);
  if (--entry.units_left == 0) finish(index, entry);
}

void DigestFiles::finish(std::size_t index, Entry& entry) {
  FileDigests& digests = digests_[index];
  if (entry.open) {
    try {
      const OpenInput& open = *entry.open;
      // Compared after the last read: a comparison before it could miss a change.
      if (stamp_of(open.file) != open.stamp) {
        fail(entry, ReadState::changed, {});
      } else if (open.cached && open.cached->mapping().is_broken()) {
        // A read of the mapping cannot report an error: the pages were zeros instead.
        fail(entry, ReadState::unreadable, open.file.path().string() + ": cannot read: Input/output error");
      }
    } catch (const Error& error) {
      fail(entry, ReadState::unreadable, error.what());
    }
    entry.open.reset();
  }
  if (entry.failure == ReadState::complete) {
    const bool fits = digests.found_bytes == inputs_[index].length_bytes;
    digests.state = fits ? ReadState::complete : ReadState::wrong_size;
    return;
  }
  const std::uint64_t found_bytes = digests.found_bytes;
  // The digests are of bytes that were not all read, or not all of one state of the file.
  digests = FileDigests{};
  digests.state = entry.failure;
  digests.problem = entry.problem;
  if (entry.failure == ReadState::changed) digests.found_bytes = found_bytes;
}

void DigestFiles::fail(std::size_t index, ReadState state, const std::string& problem) {
  Entry& entry = entries_[index];
  const std::scoped_lock lock(entry.mutex);
  fail(entry, state, problem);
}

void DigestFiles::fail(Entry& entry, ReadState state, const std::string& problem) {
  // The first failure of an input is kept; later ones are often its consequences.
  if (entry.failure != ReadState::complete) return;
  entry.failure = state;
  entry.problem = problem;
}

std::vector<FileDigests> DigestFiles::take() { return std::move(digests_); }

}  // namespace sluice::base
