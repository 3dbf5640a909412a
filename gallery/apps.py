from django.apps import AppConfig


class GalleryConfig(AppConfig):
    name = "gallery"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Manabooru"

    def ready(self) -> None:
        from gallery import celery, checks  # noqa: F401  (shared tasks find their app, checks register)
