#include "tests/fetch/memory_storage.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sluice::tests {

class MemoryFile final : public fetch::StorageFile {
 public:
  MemoryFile(MemoryStorage& storage, std::string path) : storage_(storage), path_(std::move(path)) {}

  std::size_t read_at(std::uint64_t offset_bytes, base::MutableBytes out) const override {
    const std::lock_guard lock(storage_.mutex_);
    const auto& bytes = storage_.files_.at(path_);
    if (offset_bytes >= bytes.size()) return 0;
    const auto count = std::min<std::size_t>(out.size(), bytes.size() - offset_bytes);
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset_bytes), count, out.begin());
    return count;
  }
  void write_at(std::uint64_t offset_bytes, base::Bytes bytes) override {
    storage_.take({MemoryStorage::Step::Kind::write, path_, offset_bytes, {bytes.begin(), bytes.end()}});
  }
  void resize(std::uint64_t size_bytes) override {
    storage_.take({MemoryStorage::Step::Kind::resize, path_, size_bytes, {}});
  }
  void sync() override { storage_.take({MemoryStorage::Step::Kind::sync, path_, 0, {}}); }
  base::FileStamp stamp() const override { return storage_.find(path_).value(); }
  void start_writeback(std::uint64_t, std::uint64_t) const override {}
  void drop_cache(std::uint64_t, std::uint64_t) const override {}

 private:
  MemoryStorage& storage_;
  std::string path_;
};

void MemoryStorage::apply(Image& image, const Step& step, std::size_t bytes) {
  auto& file = image[step.path];
  if (step.kind == Step::Kind::resize) file.resize(step.offset_bytes);
  if (step.kind != Step::Kind::write) return;
  file.resize(std::max<std::size_t>(file.size(), step.offset_bytes + bytes));
  std::copy_n(step.bytes.begin(), bytes, file.begin() + static_cast<std::ptrdiff_t>(step.offset_bytes));
}

void MemoryStorage::take(Step step) {
  const std::lock_guard lock(mutex_);
  if (full_) throw base::Error(base::ErrorKind::no_space, step.path + ": no space left");
  apply(files_, step, step.bytes.size());
  if (step.kind != Step::Kind::sync) ++modified_[step.path];
  steps_.push_back(std::move(step));
}

std::shared_ptr<fetch::StorageFile> MemoryStorage::open_read(const std::filesystem::path& path) {
  if (!find(path)) throw base::Error(base::ErrorKind::io, path.string() + ": does not exist");
  return std::make_shared<MemoryFile>(*this, path.string());
}

std::shared_ptr<fetch::StorageFile> MemoryStorage::open_or_create(const std::filesystem::path& path) {
  {
    const std::lock_guard lock(mutex_);
    files_[path.string()];
  }
  return std::make_shared<MemoryFile>(*this, path.string());
}

std::optional<base::FileStamp> MemoryStorage::find(const std::filesystem::path& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(path.string());
  if (found == files_.end()) return std::nullopt;
  const auto modified = modified_.find(path.string());
  return base::FileStamp{found->second.size(), modified == modified_.end() ? 0 : modified->second};
}

void MemoryStorage::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  const std::lock_guard lock(mutex_);
  files_[to.string()] = std::move(files_.at(from.string()));
  files_.erase(from.string());
}

void MemoryStorage::set_full(bool full) {
  const std::lock_guard lock(mutex_);
  full_ = full;
}

MemoryStorage::Image MemoryStorage::image() const {
  const std::lock_guard lock(mutex_);
  return files_;
}

std::size_t MemoryStorage::step_count() const {
  const std::lock_guard lock(mutex_);
  return steps_.size();
}

MemoryStorage::Image MemoryStorage::after_power_loss(std::size_t steps, std::mt19937& random) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::size_t> synced;  // the last sync of each file
  for (std::size_t i = 0; i < steps; ++i)
    if (steps_[i].kind == Step::Kind::sync) synced[steps_[i].path] = i;
  Image image;
  for (std::size_t i = 0; i < steps; ++i) {
    const Step& step = steps_[i];
    const auto last = synced.find(step.path);
    std::size_t bytes = step.bytes.size();
    if (last == synced.end() || last->second < i) {
      const auto fate = random() % 3;
      if (fate == 0) continue;
      if (fate == 1 && bytes > 0) bytes = random() % bytes;
    }
    apply(image, step, bytes);
  }
  return image;
}

}  // namespace sluice::tests
