#pragma once
// A disk layer over memory, and a release to put through it without a network.

#include <mutex>
#include <random>
#include <string>

#include "fetch/disk/journal.h"
#include "fetch/disk/piece_committer.h"
#include "fetch/disk/piece_store.h"
#include "fetch/disk/resume.h"
#include "tests/fetch/memory_storage.h"

namespace sluice::tests {

/// A published release, and its content as one stream of pieces.
struct StreamedRelease {
  format::ReleaseLayout layout;
  fetch::PieceMap map;
  fetch::PieceVerifier verifier;
  std::map<std::string, std::string> files;

  StreamedRelease(format::ReleaseLayout from, std::map<std::string, std::string> content)
      : layout(std::move(from)), map(layout), verifier(layout, map), files(std::move(content)) {}
  StreamedRelease(const StreamedRelease&) = delete;

  [[nodiscard]] std::vector<std::filesystem::path> paths() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& file : layout.files) paths.emplace_back(file.path);
    return paths;
  }
  [[nodiscard]] std::vector<std::byte> piece(std::uint64_t index) const {
    std::vector<std::byte> bytes(map.piece_bytes(index));
    for (const auto& slice : map.slices(index)) {
      const auto content = base::as_bytes(files.at(layout.files[slice.file_index].path));
      std::ranges::copy(content.subspan(slice.file_offset_bytes, slice.length_bytes),
                        bytes.begin() + static_cast<std::ptrdiff_t>(slice.piece_offset_bytes));
    }
    return bytes;
  }
};

/// The parts of a payload worker without the network.
struct StoreStack {
  fetch::ReleaseFiles files;
  fetch::JournalState state;
  fetch::Journal journal;
  fetch::PieceCommitter committer;
  std::mutex mutex;  // guards failures
  std::vector<base::Error> failures;
  fetch::PieceStore store;

  StoreStack(const StreamedRelease& release, MemoryStorage& storage, std::uint64_t memory_bytes = 1 << 20)
      : files(storage, release.map, release.paths()),
        state(release.map, release.verifier, release.layout.files.size()),
        journal(storage, ".sluice/journal", release.layout,
                [this](const fetch::JournalRecord& record) { state.take(record); }),
        committer(files, release.map, journal,
                  {.on_durable = [](auto) {}, .on_failure = [](const base::Error& error) { throw error; }}),
        store(
            files, release.map, release.verifier, &committer,
            {.thread_count = 2, .memory_bytes = memory_bytes, .on_failure = [this](const base::Error& error) {
               const std::lock_guard lock(mutex);
               failures.push_back(error);
             }}) {}
};

}  // namespace sluice::tests
