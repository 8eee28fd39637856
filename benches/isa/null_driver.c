/*
 * Mesa's driver for AMD cards where there is no card: with RADV_FORCE_FAMILY it compiles for the one named, but has no
 * memory and makes no semaphores, no fences and no commands then, without which no program opens a device. Here it has
 * 2 GiB, and commands are nothing and done at once.
 *
 * How the loader speaks to a driver: "Architecture of the Vulkan Loader Interfaces". The few types of Vulkan that are
 * needed are declared here, as its specification has them, so that no header has to be installed.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t VkResult;
typedef void *Handle;
typedef void (*Function)(void);
typedef Function (*GetProcAddr)(Handle, const char *);
typedef VkResult (*Negotiate)(uint32_t *);

typedef struct {
    uint64_t bytes;
    uint64_t alignment;
    uint32_t memory_types;
} Requirements;

typedef struct {
    uint32_t type_count;
    struct {
        uint32_t flags, heap;
    } types[32];
    uint32_t heap_count;
    struct {
        uint64_t bytes;
        uint32_t flags;
    } heaps[16];
} Memory;

typedef void (*GetRequirements)(Handle, uint64_t, Requirements *);

enum { SUCCESS = 0, INITIALIZATION_FAILED = -3 };

static GetProcAddr next_device;

static Function of_driver(const char *name)
{
    static void *driver;
    if (driver == NULL)
        driver = dlopen(getenv("RADV_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    return driver == NULL ? NULL : (Function)dlsym(driver, name);
}

/* Whatever it is given, as the processor's calling conventions allow. */
static VkResult nothing(void)
{
    return SUCCESS;
}

static VkResult create(Handle device, const void *info, const void *allocator, uint64_t *out)
{
    static uint64_t made;
    (void)device, (void)info, (void)allocator;
    *out = ++made;
    return SUCCESS;
}

/* More than any value that is waited for. */
static VkResult value(Handle device, uint64_t semaphore, uint64_t *out)
{
    (void)device, (void)semaphore;
    *out = UINT64_MAX / 2;
    return SUCCESS;
}

static void requirements(Handle device, uint64_t buffer, Requirements *out)
{
    ((GetRequirements)next_device(device, "vkGetBufferMemoryRequirements"))(device, buffer, out);
    out->memory_types = 1;
}

/* Of one kind, which the device and the processor both reach. */
static void memory(Handle physical, Memory *out)
{
    (void)physical;
    memset(out, 0, sizeof *out);
    out->type_count = out->heap_count = 1;
    out->types[0].flags = 15;
    out->heaps[0].bytes = UINT64_C(2) << 30;
    out->heaps[0].flags = 1;
}

static Function of_device(Handle device, const char *name);

static const struct {
    const char *name;
    Function function;
} OURS[] = {
    {"vkGetDeviceProcAddr", (Function)of_device},
    {"vkGetPhysicalDeviceMemoryProperties", (Function)memory},
    {"vkGetBufferMemoryRequirements", (Function)requirements},
    {"vkCreateSemaphore", (Function)create},
    {"vkDestroySemaphore", (Function)nothing},
    {"vkCreateFence", (Function)create},
    {"vkDestroyFence", (Function)nothing},
    {"vkGetSemaphoreCounterValue", (Function)value},
    {"vkWaitSemaphores", (Function)nothing},
    {"vkQueueSubmit", (Function)nothing},
    {"vkQueueWaitIdle", (Function)nothing},
    {"vkDeviceWaitIdle", (Function)nothing},
    {"vkBeginCommandBuffer", (Function)nothing},
    {"vkEndCommandBuffer", (Function)nothing},
    {"vkResetCommandPool", (Function)nothing},
};

static Function ours(const char *name)
{
    for (size_t i = 0; i < sizeof OURS / sizeof OURS[0]; i++)
        if (strcmp(name, OURS[i].name) == 0)
            return OURS[i].function;
    return strncmp(name, "vkCmd", 5) == 0 ? (Function)nothing : NULL;
}

static Function of_device(Handle device, const char *name)
{
    Function function = ours(name);
    return function != NULL ? function : next_device(device, name);
}

Function vk_icdGetInstanceProcAddr(Handle instance, const char *name)
{
    GetProcAddr next = (GetProcAddr)of_driver("vk_icdGetInstanceProcAddr");
    if (next == NULL)
        return NULL;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        next_device = (GetProcAddr)next(instance, name);
    Function function = ours(name);
    return function != NULL ? function : next(instance, name);
}

VkResult vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version)
{
    Negotiate next = (Negotiate)of_driver("vk_icdNegotiateLoaderICDInterfaceVersion");
    return next == NULL ? INITIALIZATION_FAILED : next(version);
}
