#include "fetch/disk/storage.h"

#include <utility>

namespace sluice::fetch {
namespace {

class DiskFile final : public StorageFile {
 public:
  explicit DiskFile(base::File file) : file_(std::move(file)) {}

  std::size_t read_at(std::uint64_t offset_bytes, base::MutableBytes out) const override {
    return file_.read_at(offset_bytes, out);
  }
  void write_at(std::uint64_t offset_bytes, base::Bytes bytes) override {
    file_.write_at(offset_bytes, bytes);
  }
  void resize(std::uint64_t size_bytes) override { file_.resize(size_bytes); }
  void sync() override { file_.sync(); }
  base::FileStamp stamp() const override { return base::stamp_of(file_); }
  void start_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) const override {
    file_.start_writeback(offset_bytes, length_bytes);
  }
  void drop_cache(std::uint64_t offset_bytes, std::uint64_t length_bytes) const override {
    file_.drop_cache(offset_bytes, length_bytes);
  }

 private:
  base::File file_;
};

class DiskStorage final : public Storage {
 public:
  explicit DiskStorage(const std::filesystem::path& folder) : folder_(base::Directory::open(folder)) {}

  std::shared_ptr<StorageFile> open_read(const std::filesystem::path& path) override {
    return std::make_shared<DiskFile>(folder_.open_read(path));
  }
  std::shared_ptr<StorageFile> open_or_create(const std::filesystem::path& path) override {
    return std::make_shared<DiskFile>(folder_.open_or_create(path));
  }
  std::optional<base::FileStamp> find(const std::filesystem::path& path) const override {
    return folder_.find(path);
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    folder_.rename(from, to);
  }

 private:
  base::Directory folder_;
};

}  // namespace

std::unique_ptr<Storage> open_storage(const std::filesystem::path& folder) {
  return std::make_unique<DiskStorage>(folder);
}

}  // namespace sluice::fetch
