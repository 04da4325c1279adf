#pragma once
// fetch::Storage in memory that remembers every write and every sync in order, so that a test can ask what
// the disk would hold had the power gone at some instant: all that was synced before, and of the rest any
// part.

#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "fetch/disk/storage.h"

namespace sluice::tests {

class MemoryStorage final : public fetch::Storage {
 public:
  using Image = std::map<std::string, std::vector<std::byte>>;  ///< by path

  MemoryStorage() = default;
  explicit MemoryStorage(Image image) : files_(std::move(image)) {}

  std::shared_ptr<fetch::StorageFile> open_read(const std::filesystem::path& path) override;
  std::shared_ptr<fetch::StorageFile> open_or_create(const std::filesystem::path& path) override;
  std::optional<base::FileStamp> find(const std::filesystem::path& path) const override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;

  /// Makes writes and syncs fail from now on, as on a full disk, or ends that.
  void set_full(bool full);

  [[nodiscard]] Image image() const;
  [[nodiscard]] std::size_t step_count() const;
  /// The content of the disk after a power loss that follows the first `steps` steps. `random` decides
  /// whether a write that was not synced then is kept, lost, or kept in its first part.
  [[nodiscard]] Image after_power_loss(std::size_t steps, std::mt19937& random) const;

 private:
  friend class MemoryFile;
  struct Step {
    enum class Kind : std::uint8_t { write, resize, sync };
    Kind kind;
    std::string path;
    std::uint64_t offset_bytes = 0;  // or the new size
    std::vector<std::byte> bytes;
  };
  static void apply(Image& image, const Step& step, std::size_t bytes);
  void take(Step step);

  mutable std::mutex mutex_;
  Image files_;
  std::map<std::string, std::int64_t> modified_;
  std::vector<Step> steps_;
  bool full_ = false;
};

}  // namespace sluice::tests
